"""`store push|check`: the bucket that artifacts belong in, on the server's machine."""

import os
import sys

import typer

from steelyard.cli.options import JsonFlag

_COMMANDS = "steelyard.server.object_store_commands"


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True, help="The bucket of STEELYARD_OBJECT_STORE_URL, where artifacts belong in one."
    )
    group.command("check")(check)
    group.command("push")(push)
    app.add_typer(group, name="store", rich_help_panel="Platform")


def check(as_json: JsonFlag = False) -> None:
    """Try the bucket: write, read, see how objects are encrypted, delete. Exit 1 where it isn't as set."""
    _run("check", as_json)


def push(as_json: JsonFlag = False) -> None:
    """Bring artifacts that are in this home's folder alone to the bucket, as after switching it on.

    Run it again if it was cut short: what is there is passed quickly. Exit 1 where something is damaged.
    """
    _run("push", as_json)


def _run(verb: str, as_json: bool) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [sys.executable, "-m", _COMMANDS, verb, *(["--json"] if as_json else [])]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter
