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
        no_args_is_help=True, help="Keys of this home: for secrets, workflow payloads, and tokens."
    )
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    app.add_typer(group, name="keys", rich_help_panel="Platform")


def list_keys(as_json: JsonFlag = False) -> None:
    """Say which keys there are, and what each is still needed for. Keys themselves are never shown."""
    _run("list", *(["--json"] if as_json else []))


def rotate(
    retire: Annotated[
        bool,
        typer.Option(
            "--retire",
            help="Also delete keys that wrap no secret any more, or that signed no token that may be good.",
        ),
    ] = False,
    end_tokens: Annotated[
        bool,
        typer.Option(
            "--end-tokens",
            help="After a theft: delete all older keys of tokens. Sessions end; attempts save and restart.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add new keys, which seal and sign from now on, and wrap every secret anew. Nothing needs a restart.

    Older payload keys stay, since workflow histories live for 90 days; older keys of tokens until the last
    token that they signed has ended. Run it again if it was cut short.
    """
    flags = {"--retire": retire or end_tokens, "--end-tokens": end_tokens, "--json": as_json}
    _run("rotate", *(flag for flag, given in flags.items() if given))


def _run(*arguments: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _KEYS, *arguments])  # noqa: S606 - our own interpreter
