"""`steelyard up | down | status | doctor | token`: the embedded platform of this machine.

The platform's own code runs in a process of its own, which replaces this one: the CLI imports no server.
"""

import os
import sys
from typing import Annotated

import typer

from steelyard.kit.home import admin_token_file, home_from_environment

_PLATFORM = "steelyard.server.embedded"
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    for command in (up, down, status, doctor, token):
        app.command()(command)


def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, log to the terminal, stop at Ctrl-C.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is ready.")] = 120.0,
    simulate_gpus: Annotated[
        int | None,
        typer.Option(
            "--simulate-gpus", metavar="N", min=0, max=64, help="Claim so many GPUs; jobs run on CPU."
        ),
    ] = None,
    simulate_nodes: Annotated[
        int | None,
        typer.Option("--simulate-nodes", metavar="N", min=1, max=64, help="Appear as N nodes with them."),
    ] = None,
    simulated_flavor: Annotated[
        str | None, typer.Option("--simulated-flavor", metavar="NAME", help="Their flavor.")
    ] = None,
    json: Json = False,
) -> None:
    """Start the platform in the background, and wait until it can take jobs. Says so if it runs already.

    With --simulate-gpus quotas, fair share, preemption and spot can be tried on any machine. What simulates
    is told at each start, and changes nothing of a platform that runs already.

    Exit codes: 0 ready, 1 not ready (the message says why), 130 interrupted (it goes on starting).
    """
    chosen = {
        "--simulate-gpus": simulate_gpus,
        "--simulate-nodes": simulate_nodes,
        "--simulated-flavor": simulated_flavor,
    }
    given = [f"{flag}={value}" for flag, value in chosen.items() if value is not None]
    _run("up", f"--timeout={timeout}", *given, *_flags(foreground=foreground, json=json))


def down(
    grace: Annotated[float, typer.Option(help="Seconds that running trainings get to save.")] = 30.0,
    json: Json = False,
) -> None:
    """Stop the platform: trainings save first, then all processes end. Nothing is lost."""
    _run("down", f"--grace={grace}", *_flags(json=json))


def status(json: Json = False) -> None:
    """Show every process of the platform. Exit codes: 0 running, 3 stopped, 1 anything between."""
    _run("status", *_flags(json=json))


def doctor(json: Json = False) -> None:
    """Check this machine for what the platform needs. Exit code 1 if something would keep it from running."""
    _run("doctor", *_flags(json=json))


def token() -> None:
    """Print the local administrator's token, as the SDK and `curl` need it. It is a secret."""
    path = admin_token_file(home_from_environment())
    try:
        typer.echo(path.read_text().strip())
    except FileNotFoundError:
        typer.echo(f"There is no token in {path}; `steelyard up` makes one.", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{path} can't be read ({error.strerror}); run as the platform's user.", err=True)
        raise typer.Exit(1) from None


def _run(*arguments: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _PLATFORM, *arguments])  # noqa: S606 - our own interpreter


def _flags(**chosen: bool) -> list[str]:
    return [f"--{name}" for name, on in chosen.items() if on]
