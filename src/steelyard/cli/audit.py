"""`audit search verify prove check-proof export`: who did what, and proof that it stands.

`search` asks the api. The others read the server's database themselves, so that they need no running api;
they run in a process of their own, which replaces this one: the CLI imports no server.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from steelyard.cli.audit_rows import RowFormat, read_pages, write_rows
from steelyard.cli.formats import format_time
from steelyard.cli.options import JsonFlag
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import connect
from steelyard.kit.paging import MAX_LIMIT, Page
from steelyard.specs.audit import AuditEntry

_AUDIT = "steelyard.server.audit"

Actor = Annotated[str | None, typer.Option("--actor", help="By whom: user:ada, or ada.")]
Object = Annotated[str | None, typer.Option("--object", metavar="ID", help="What it was done to.")]
VerbName = Annotated[str | None, typer.Option("--verb", help="What was done: job.cancel, or job.*.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From 2026-01-31T12:00:00Z on.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before that moment.")]
Project = Annotated[
    str | None, typer.Option("--project", metavar="NAME", help="Only this project's; else all.")
]
PublicKey = Annotated[
    Path | None, typer.Option("--public-key", metavar="FILE", help="The audit.pub that you kept.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="The audit trail: search, verify, prove, export.")
    for name, command in (
        ("search", search), ("verify", verify), ("prove", prove), ("check-proof", check), ("export", export)
    ):  # fmt: skip
        group.command(name)(command)
    app.add_typer(group, name="audit", rich_help_panel="Platform")


def search(
    actor: Actor = None,
    object_id: Object = None,
    verb: VerbName = None,
    outcome: Annotated[
        Literal["accepted", "refused"] | None, typer.Option("--outcome", help="accepted or refused.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Read on after this row.")
    ] = None,
    project: Project = None,
    organization: Annotated[
        str | None,
        typer.Option("--organization", metavar="NAME", help="All projects of this organization."),
    ] = None,
    form: Annotated[
        RowFormat | None, typer.Option("--format", help="Write every row that fits, not a page of them.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List acts, newest first. With --format, all that fit are written for other programs."""
    with connect(project) as client:

        def ask(after: str | None, limit: int) -> Page[AuditEntry]:
            return client.audit.search(
                project=project, organization=organization, actor=actor, object=object_id, verb=verb,
                outcome=outcome, since=since, until=until, limit=limit, after=after,
            )  # fmt: skip

        if form is not None:
            write_rows(read_pages(lambda last: ask(last, MAX_LIMIT), after), form)
            return
        page = ask(after, limit)
    if as_json:
        write_json(page)
        return
    screen = Screen()
    screen.print(_table(page.data) if page.data else "Nothing on record that fits.")
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}.")


def verify(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="A checkpoint that you kept; repeatable."),
    ] = None,
    public_key: PublicKey = None,
    exported: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Verify this export, not the database.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Recompute the whole trail, and name the first row that isn't what was sealed.

    Keep copies of <home>/audit/checkpoints where the server's owner can't reach them, and give an old one:
    only that finds a trail that was rewritten from the ground up.

    Exit codes: 0 intact, 1 tampered, 3 the database can't be reached.
    """
    given = [f"--checkpoint={path}" for path in checkpoints or []]
    _run(
        "verify", *given, *_options(public_key=public_key, export=exported), *(["--json"] if as_json else [])
    )


def prove(
    row: Annotated[int, typer.Argument(metavar="ROW", help="Id of a row.", min=0)], as_json: JsonFlag = False
) -> None:
    """Print a proof that a row is in the trail, for somebody who has the public key and nothing else.

    It is JSON with or without --json, which lets errors be JSON too.
    """
    _run("prove", str(row), *(["--json"] if as_json else []))


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `audit prove` printed.")],
    public_key: PublicKey = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a proof. Needs no platform. Exit codes: 0 it holds, 1 it doesn't."""
    _run("check-proof", *_options(public_key=public_key), *(["--json"] if as_json else []), "--", str(file))


def export(
    format_: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="jsonl can be verified; csv is for tables.")
    ] = "jsonl",
    actor: Actor = None,
    object_id: Object = None,
    verb: VerbName = None,
    since: Since = None,
    until: Until = None,
    project: Project = None,
) -> None:
    """Write the trail to standard output, on the server's machine. Without filters, jsonl can be verified."""
    _run(
        "export",
        f"--format={format_}",
        *_options(
            actor=actor, object=object_id, verb=verb, since=since, until=until, project=project
        ),
    )  # fmt: skip


def _table(entries: list[AuditEntry]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "TIME", "ACTOR", "VERB", "OBJECT", "OUTCOME", "FROM"):
        table.add_column(column, no_wrap=column != "OBJECT")
    for entry in entries:
        refused = entry.outcome == "refused"
        code = str(entry.detail.get("code", "")) if refused else ""
        table.add_row(
            str(entry.id), format_time(entry.at), printable(entry.actor), printable(entry.verb),
            printable(entry.object_id), printable(f"{entry.outcome} {code}".strip()),
            printable(entry.source or ""),
            style="yellow" if refused else None,
        )  # fmt: skip
    return table


def _run(*arguments: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _AUDIT, *arguments])  # noqa: S606 - our own interpreter


def _options(**given: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
