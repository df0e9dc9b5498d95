"""`secrets set|list|remove`: what jobs are given by file, and nobody reads back."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from steelyard.cli.formats import format_time
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, tell_removed, write_json
from steelyard.cli.session import connect
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.secrets import MAX_SECRET_CHARACTERS
from steelyard.specs.views import ListView

SecretArgument = Annotated[str, typer.Argument(metavar="NAME", help="As HF_TOKEN.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True, help="Secrets that a job's spec names under `secrets`: set, list, remove."
    )
    for name, command in (("set", set_secret), ("list", list_secrets), ("remove", remove)):
        group.command(name)(command)
    app.add_typer(group, name="secrets", rich_help_panel="Data")


def set_secret(
    name: SecretArgument,
    file: Annotated[
        Path | None, typer.Option("--from-file", metavar="FILE", help="Read the value from here.")
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Store a value: typed unseen, piped in, or from a file; never an argument, which others could see."""
    value = _read_value(name, file)
    with connect(project, persistent=True) as client:
        view = client.secrets.put(name, value)
    if as_json:
        write_json(view)
        return
    Screen().print(f"{view.name} is set (version {view.version}); a job gets it by `secrets: [{view.name}]`.")


def list_secrets(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List names; values are never shown."""
    with connect(project) as client:
        found = client.secrets.search()
    if as_json:
        write_json(ListView(data=found))
        return
    table = Table("NAME", "VERSION", "BY", "CHANGED", box=None)
    for view in found:
        table.add_row(
            printable(view.name), str(view.version), printable(view.created_by), format_time(view.updated_at)
        )
    Screen().print(table if found else "No secrets yet; `steelyard secrets set HF_TOKEN` stores one.")


def remove(name: SecretArgument, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Forget a secret. Attempts that run have it already."""
    with connect(project, persistent=True) as client:
        client.secrets.remove(name)
    tell_removed("secret", name, f"{printable(name)} is gone.", as_json)


def _read_value(name: str, file: Path | None) -> str:
    if file is not None:
        try:
            value = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{file} can't be read: {error}", param="--from-file") from error
    elif sys.stdin.isatty():
        value = str(typer.prompt(f"Value of {name}", hide_input=True, err=True))
    else:
        value = sys.stdin.read(MAX_SECRET_CHARACTERS + 2)
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise InvalidRequest(f"the value of {name} is empty; type it, pipe it in, or give --from-file")
    return value
