"""`trials`: what a search has tried, and what each trial is worth."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from steelyard.cli.exits import ExitCode
from steelyard.cli.formats import format_time
from steelyard.cli.options import JobName, JsonFlag, ProjectName
from steelyard.cli.outages import OutageNotice
from steelyard.cli.output import Screen, printable, write_json, write_json_line
from steelyard.cli.session import connect, find_job
from steelyard.cli.trial_tables import trial_line, trial_table
from steelyard.client.sync_client import Client
from steelyard.kit.clock import utc_now
from steelyard.kit.paging import MAX_LIMIT, Page
from steelyard.specs.trials import TrialView
from steelyard.specs.views import JobView

Sort = Annotated[
    Literal["number", "value"], typer.Option("--sort", help="By number, or by value: the best first.")
]
Curves = Annotated[bool, typer.Option("--curves", help="Show each trial's curve.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the search has ended.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")]
After = Annotated[str | None, typer.Option("--after", metavar="N", help="Read on after this trial.")]
AllFlag = Annotated[bool, typer.Option("--all", help="All of them, however many.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trials", rich_help_panel="Look")(list_trials)


def list_trials(
    job: JobName,
    sort: Sort = "number",
    curves: Curves = False,
    limit: Limit = 50,
    after: After = None,
    everything: AllFlag = False,
    follow: Follow = False,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List a search's trials, the best marked. With --json: one document; with -f each change, by line."""
    with connect(project) as client:
        search = client.jobs.get(find_job(client, job))
        if follow:
            _follow(client, search, sort, curves, as_json)
            return
        if everything:
            found = client.trials.all(search.id, sort=sort, curves=curves)
            page = Page[TrialView](data=found, has_more=False)
        else:
            page = client.trials.list(search.id, limit=limit, after=after, sort=sort, curves=curves)
    if as_json:
        write_json(page)
        return
    screen = Screen()
    screen.print(_shown(search, page.data, screen.width))
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}, or --all.")


def _follow(
    client: Client, search: JobView, sort: Literal["number", "value"], curves: bool, as_json: bool
) -> None:
    notice = OutageNotice(quiet=as_json)
    looks = client.trials.watch(
        search.id, sort=sort, curves=curves, on_outage=notice, max_outage_seconds=None
    )
    screen = Screen()
    try:
        if as_json or not screen.is_terminal:
            _print_changes(looks, screen, as_json)
            return
        with Live(console=screen, auto_refresh=False) as live:
            for trials in looks:
                live.update(_shown(search, trials, screen.width), refresh=True)
    except KeyboardInterrupt:
        Screen(stderr=True).print(
            f"\nDetached. The search goes on; come back with: steelyard trials -f {search.id}"
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _print_changes(looks: Iterator[list[TrialView]], screen: Screen, as_json: bool) -> None:
    seen: dict[int, TrialView] = {}
    for trial in chain.from_iterable(looks):
        if seen.get(trial.number) == trial:
            continue
        seen[trial.number] = trial
        if as_json:
            write_json_line(trial)
        else:
            screen.print(f"{format_time(utc_now())}  {trial_line(trial)}")
            screen.file.flush()


def _shown(search: JobView, trials: Sequence[TrialView], columns: int) -> RenderableType:
    block = search.spec.get("search", {})
    head = f"{printable(search.name)}  {search.id}  {block.get('metric')} ({block.get('direction')})"
    if not trials:
        return Group(head, "No trials yet; `steelyard explain` says why.")
    return Group(head, trial_table(trials, columns))
