"""`list get explain attempts checkpoints`: what there is, and why it is so."""

from typing import Annotated

import typer

from steelyard.cli.options import JobName, JsonFlag, ProjectName
from steelyard.cli.output import Screen, write_json
from steelyard.cli.render import attempt_table, checkpoint_table, explanation, job_details, job_table
from steelyard.cli.session import connect, find_job
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import MAX_LIMIT, Page
from steelyard.specs.states import JobState
from steelyard.specs.views import JobSummary

_PANEL = "Look"

StateFilter = Annotated[
    list[JobState] | None, typer.Option("--state", help="Only jobs in this state; repeatable.")
]
TypeFilter = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only jobs of this type.")]
TagFilter = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Only jobs with this tag; repeatable.")
]
NameFilter = Annotated[str | None, typer.Option("--name", help="Only jobs of this name.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")]
After = Annotated[str | None, typer.Option("--after", metavar="ID", help="Read on after this job.")]
ParentJob = Annotated[
    str | None, typer.Option("--parent", metavar="JOB", help="Only what this search or pipeline has made.")
]
ChildrenFlag = Annotated[bool, typer.Option("--children", help="Also what searches and pipelines have made.")]
AllFlag = Annotated[bool, typer.Option("--all", help="All of them, however many.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list", rich_help_panel=_PANEL)(list_jobs)
    app.command("get", rich_help_panel=_PANEL)(get_job)
    app.command("explain", rich_help_panel=_PANEL)(explain_job)
    app.command("attempts", rich_help_panel=_PANEL)(list_attempts)
    app.command("checkpoints", rich_help_panel=_PANEL)(list_checkpoints)


def list_jobs(
    states: StateFilter = None,
    job_type: TypeFilter = None,
    tags: TagFilter = None,
    name: NameFilter = None,
    limit: Limit = 20,
    after: After = None,
    everything: AllFlag = False,
    parent: ParentJob = None,
    children: ChildrenFlag = False,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    wanted = [state.value for state in states or []]
    pairs = parse_tags(tags or [])
    with connect(project) as client:
        family = None if parent is None else find_job(client, parent)
        if everything:
            jobs = client.jobs.iterate(
                states=wanted, type=job_type, tags=pairs, name=name, parent=family, children=children
            )
            page = Page[JobSummary](data=list(jobs), has_more=False)
        else:
            page = client.jobs.list(
                limit=limit,
                after=after,
                states=wanted,
                type=job_type,
                tags=pairs,
                name=name,
                parent=family,
                children=children,
            )
    if as_json:
        write_json(page)
        return
    _print_page(page)


def get_job(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a job: state, progress, figures, attempts."""
    with connect(project) as client:
        view = client.jobs.get(find_job(client, job))
    if as_json:
        write_json(view)
    else:
        Screen().print(job_details(view))


def explain_job(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Say why a job is where it is, and what would move it."""
    with connect(project) as client:
        view = client.jobs.explain(find_job(client, job))
    if as_json:
        write_json(view)
    else:
        Screen().print(explanation(view))


def list_attempts(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List a job's launches: where, how far, and why each ended."""
    with connect(project) as client:
        view = client.jobs.get(find_job(client, job))
    if as_json:
        write_json(view.attempts)
    elif view.children is not None:
        Screen().print(f"What it has made has attempts: steelyard list --parent {view.id}")
    else:
        none = "No attempts yet; `steelyard explain` says why."
        Screen().print(attempt_table(view.attempts) if view.attempts else none)


def list_checkpoints(job: JobName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List a job's checkpoints."""
    with connect(project) as client:
        checkpoints = client.jobs.checkpoints(find_job(client, job))
    if as_json:
        write_json(checkpoints)
    else:
        Screen().print(checkpoint_table(checkpoints) if checkpoints else "No checkpoints yet.")


def parse_tags(tags: list[str]) -> dict[str, str]:
    """Parse `key=value` words.

    Raises:
        InvalidRequest: one has no `=`.
    """
    pairs: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals:
            raise InvalidRequest(f"--tag {tag}: give a key and a value, as in team=support.", param="tag")
        pairs[key] = value
    return pairs


def _print_page(page: Page[JobSummary]) -> None:
    screen = Screen()
    if not page.data:
        screen.print("No jobs. `steelyard submit FILE` makes one.")
        return
    screen.print(job_table(page.data, screen.width))
    if page.has_more:
        Screen(stderr=True).print(f"There are more: --after {page.next}, or --all.")
