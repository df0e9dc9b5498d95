"""The Typer application without its commands; each module of commands adds its own by `register(app)`."""

from typing import Annotated

import typer

from steelyard import __version__
from steelyard.cli.exits import MEANINGS
from steelyard.cli.output import write_line


def make_app() -> typer.Typer:
    """Return a fresh application. Tracebacks show no local variables, which may hold secrets."""
    app = typer.Typer(
        name="steelyard",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=_exit_codes(),
    )
    app.callback()(_main)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        write_line(f"steelyard {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Train language models on a shared pool, and weigh each before it leaves."""


def _exit_codes() -> str:
    lines = (f"{code.value:>4}  {meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(("Exit codes:", *lines))
