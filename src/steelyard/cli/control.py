"""`cancel pause resume retry set-priority`: what one may ask of a job."""

from typing import Annotated

import typer
from rich.text import Text

from steelyard.cli.exits import ExitCode
from steelyard.cli.options import JobName, JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.queries import parse_tags
from steelyard.cli.render import state_text
from steelyard.cli.session import connect, find_job
from steelyard.client.models import CancelResult
from steelyard.client.sync_client import Client
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.views import JobView

_PANEL = "Control"

Victims = Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="Ids of jobs, or @latest.")]
AllFlag = Annotated[bool, typer.Option("--all", help="Every job of the project that hasn't ended.")]
TagFilter = Annotated[str | None, typer.Option("--tag", metavar="KEY=VALUE", help="Every job with this tag.")]
FromCheckpoint = Annotated[
    str | None, typer.Option("--from-checkpoint", metavar="ID", help="Go on from this checkpoint.")
]
FromStep = Annotated[
    int | None, typer.Option("--step", min=0, help="Go on from the checkpoint of this step.")
]
Priority = Annotated[int, typer.Argument(metavar="N", min=0, max=1000, help="0 to 1000; higher goes first.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("cancel", rich_help_panel=_PANEL)(cancel)
    app.command("pause", rich_help_panel=_PANEL)(pause)
    app.command("resume", rich_help_panel=_PANEL)(resume)
    app.command("retry", rich_help_panel=_PANEL)(retry)
    app.command("set-priority", rich_help_panel=_PANEL)(set_priority)


def cancel(
    jobs: Victims = None,
    everything: AllFlag = False,
    tag: TagFilter = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop jobs for good. A running one saves a checkpoint first, so `retry` can go on from there."""
    if sum((bool(jobs), everything, tag is not None)) != 1:
        raise InvalidRequest("Name jobs, or give --tag KEY=VALUE, or --all.")
    pair = next(iter(parse_tags([tag]).items())) if tag is not None else None
    with connect(project, persistent=True) as client:
        ids = [find_job(client, job) for job in jobs or []]
        if len(ids) == 1:
            _show(client.jobs.cancel(ids[0]), as_json)
            return
        _show_results(_cancel_many(client, ids, pair, everything), as_json)


def pause(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Save a checkpoint, stop, and free the job's resources until `resume`."""
    with connect(project, persistent=True) as client:
        _show(client.jobs.pause(find_job(client, job)), as_json)


def resume(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Let a paused job go on from its checkpoint."""
    with connect(project, persistent=True) as client:
        _show(client.jobs.resume(find_job(client, job)), as_json)


def retry(
    job: JobName,
    checkpoint: FromCheckpoint = None,
    step: FromStep = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a failed or cancelled job go on, from its newest checkpoint or the one named."""
    if checkpoint is not None and step is not None:
        raise InvalidRequest("Give --from-checkpoint or --step, not both.")
    with connect(project, persistent=True) as client:
        _show(client.jobs.retry(find_job(client, job), checkpoint=checkpoint, step=step), as_json)


def set_priority(
    job: JobName, priority: Priority, project: ProjectName = None, as_json: JsonFlag = False
) -> None:
    """Change a job's place in the queue."""
    with connect(project, persistent=True) as client:
        view = client.jobs.set_priority(find_job(client, job), priority)
    if as_json:
        write_json(view)
    else:
        Screen().print(f"{view.id} has priority {view.priority}.")


def _cancel_many(
    client: Client, ids: list[str], tag: tuple[str, str] | None, everything: bool
) -> list[CancelResult]:
    return client.jobs.cancel_many(ids, tag=tag, everything=everything)


def _show(view: JobView, as_json: bool) -> None:
    if as_json:
        write_json(view)
        return
    said = printable(view.status_message or "").removeprefix(f"{view.state}: ")
    Screen().print(Text.assemble(view.id, " is ", state_text(view.state), f": {said}" if said else ""))


def _show_results(results: list[CancelResult], as_json: bool) -> None:
    if as_json:
        write_json(results)
    else:
        screen = Screen()
        for result in results:
            screen.print(f"{result.id}: {printable(result.message or '') or 'accepted'}")
        if not results:
            screen.print("Nothing to cancel.")
    if not all(result.accepted for result in results):
        raise typer.Exit(ExitCode.CONFLICT)
