"""`certs dev`: certificates to try TLS with."""

import os
import sys
from typing import Annotated

import typer

from steelyard.cli.options import JsonFlag

_CERTS = "steelyard.server.certs"


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Certificates for TLS between services.")
    # With a callback a group of one command stays a group.
    group.callback()(lambda: None)
    group.command("dev")(make)
    app.add_typer(group, name="certs", rich_help_panel="Platform")


def make(
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="A name or address that the api answers to; repeatable."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an authority and certificates for server and clients in this home, for development."""
    given = [f"--name={name}" for name in names or []] + (["--json"] if as_json else [])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", _CERTS, "dev", *given])  # noqa: S606 - our own interpreter
