"""`logs` and `events`: what a job says and what happens to it, as stored or as it comes."""

from typing import Annotated

import typer

from steelyard.cli.options import JobName, JsonFlag, ProjectName
from steelyard.cli.outages import OutageNotice
from steelyard.cli.output import Screen, write_json, write_json_line, write_line
from steelyard.cli.render import event_line
from steelyard.cli.session import connect, find_job

_PANEL = "Look"

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]
AttemptNumber = Annotated[
    int | None, typer.Option("--attempt", metavar="N", min=1, help="Of this attempt; else of the newest.")
]
Tail = Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")]
AfterEvent = Annotated[str | None, typer.Option("--after", metavar="ID", help="Only events after this one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("logs", rich_help_panel=_PANEL)(show_logs)
    app.command("events", rich_help_panel=_PANEL)(show_events)


def show_logs(
    job: JobName,
    follow: Follow = False,
    attempt: AttemptNumber = None,
    tail: Tail = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Print a job's log. With --json, one {"line": ...} a line."""
    with connect(project) as client:
        lines = client.jobs.logs(
            find_job(client, job),
            attempt=attempt,
            follow=follow,
            tail_lines=tail,
            on_outage=OutageNotice(quiet=as_json),
            max_outage_seconds=None if follow else 60.0,
        )
        for line in lines:
            if as_json:
                write_json_line({"line": line})
            else:
                write_line(line)


def show_events(
    job: JobName,
    follow: Follow = False,
    after: AfterEvent = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what happened to a job. With --json: one document, or with -f one event a line."""
    with connect(project) as client:
        events = client.jobs.events(
            find_job(client, job),
            follow=follow,
            after=after,
            on_outage=OutageNotice(quiet=as_json),
            max_outage_seconds=None,
        )
        if as_json and not follow:
            write_json(list(events))
            return
        screen = Screen()
        for event in events:
            if as_json:
                write_json_line(event)
            else:
                screen.print(event_line(event))
