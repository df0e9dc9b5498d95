"""`wait`, and what `submit --wait` does: watch jobs until all have ended."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from steelyard.cli.exits import ExitCode, exit_code_of_states
from steelyard.cli.formats import format_span
from steelyard.cli.options import JobNames, JsonFlag, ProjectName
from steelyard.cli.outages import OutageNotice
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.progress import make_display
from steelyard.cli.render import metric_table, state_text
from steelyard.cli.session import connect, find_job
from steelyard.client.sync_client import Client
from steelyard.specs.states import JobState
from steelyard.specs.views import JobView

Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="Give up waiting after so long.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("wait", rich_help_panel="Look")(wait)


def wait(
    jobs: JobNames, timeout: Timeout = None, project: ProjectName = None, as_json: JsonFlag = False
) -> None:
    """Wait until jobs have ended. Ends with 0, 1 (failed), 6 (cancelled) or 7 (timeout); Ctrl-C detaches."""
    with connect(project) as client:
        ids = [find_job(client, job) for job in jobs]
        wait_for(client, ids, timeout_seconds=timeout, as_json=as_json)


def wait_for(
    client: Client, ids: Sequence[str], *, timeout_seconds: float | None = None, as_json: bool = False
) -> None:
    """Watch jobs until all have ended, print how, and end the command with the code that says so.

    As `watch_to_end`, and then prints.

    With `as_json`, one document at the end: the job, or `{"data": [...]}` for more than one. An outage of
    the platform is waited through.

    Raises:
        WaitTimedOut: not all have ended in time.
        typer.Exit: a job failed or was cancelled, or Ctrl-C.
    """
    ended = watch_to_end(client, ids, timeout_seconds=timeout_seconds, as_json=as_json)
    _show_ends(ended, as_json)
    code = exit_code_of_states([view.state for view in ended])
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def watch_to_end(
    client: Client, ids: Sequence[str], *, timeout_seconds: float | None = None, as_json: bool = False
) -> list[JobView]:
    """Show jobs until all have ended, and return them in the order of `ids`.

    Raises:
        WaitTimedOut: not all have ended in time.
        typer.Exit: Ctrl-C; what to do to come back was said.
    """
    views: dict[str, JobView] = {}
    watch = client.jobs.watch(
        *ids,
        timeout_seconds=timeout_seconds,
        on_outage=OutageNotice(quiet=as_json),
        max_outage_seconds=None,
    )
    try:
        with make_display(quiet=as_json) as display:
            for view in watch:
                views[view.id] = view
                display.show(view)
    except KeyboardInterrupt:
        _detach(ids)
    return [views[job] for job in dict.fromkeys(ids)]


def _detach(ids: Sequence[str]) -> None:
    goes = "The job goes" if len(ids) == 1 else "The jobs go"
    Screen(stderr=True).print(f"\nDetached. {goes} on; come back with: steelyard wait {' '.join(ids)}")
    raise typer.Exit(ExitCode.INTERRUPTED)


def _show_ends(ended: Sequence[JobView], as_json: bool) -> None:
    if as_json:
        write_json(ended[0] if len(ended) == 1 else ended)
        return
    screen = Screen()
    for view in ended:
        for part in _end_of(view):
            screen.print(part)


def _end_of(view: JobView) -> list[RenderableType]:
    took = format_span(view.started_at, view.ended_at)
    head = Text.assemble(
        (printable(view.name), "bold"),
        "  ",
        view.id,
        "  ",
        state_text(view.state),
        f" in {took}" if took else "",
    )
    parts: list[RenderableType] = [head]
    if view.state is not JobState.SUCCEEDED:
        parts.append(f"{view.status_reason or 'no reason given'}: {printable(view.status_message or '')}")
        second = "logs" if view.children is None else "list --parent"
        parts.append(f"Look closer with: steelyard explain {view.id}, steelyard {second} {view.id}")
        return parts
    if view.metrics:
        parts.append(metric_table(view.metrics))
    if view.model:
        parts.append(f"Registered as {view.model.name} version {view.model.version}.")
    return parts
