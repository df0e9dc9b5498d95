"""`keys list|rotate`: the platform's own encryption keys, on the server's machine."""

import os
import sys
from typing import Annotated

import typer

from steelyard.cli.options import JsonFlag

_KEYS = "steelyard.server.rotation"


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True, help="Encryption keys of this home, for secrets and workflow payloads."
    )
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    app.add_typer(group, name="keys", rich_help_panel="Platform")


def list_keys(as_json: JsonFlag = False) -> None:
    """Say which keys there are, and how many secrets each one wraps. Keys themselves are never shown."""
    _run("list", *(["--json"] if as_json else []))


def rotate(
    retire: Annotated[
        bool, typer.Option("--retire", help="Also delete keys of secrets that wrap nothing any more.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add new keys, which seal from now on, and wrap every secret anew. Nothing needs a restart.

    Older payload keys stay, since workflow histories live for 90 days. Run it again if it was cut short.
    """
    _run("rotate", *(["--retire"] if retire else []), *(["--json"] if as_json else []))


def _run(*arguments: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _KEYS, *arguments])  # noqa: S606 - our own interpreter
