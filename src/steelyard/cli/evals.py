"""`evals run|list|show|compare|samples`, `evals suites add|list|show|remove`, `evals canaries plant`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from steelyard.cli import canaries
from steelyard.cli.evaluation_tables import (
    comparison_table,
    evaluation_lines,
    evaluation_table,
    suite_lines,
    suite_table,
)
from steelyard.cli.options import JsonFlag, ProjectName
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import connect
from steelyard.cli.waiting import Timeout, wait_for
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import MAX_LIMIT
from steelyard.specs.evaluations import SuiteView
from steelyard.specs.views import ListView

EvaluationName = Annotated[str, typer.Argument(metavar="EVALUATION", help="Id of an evaluation.")]
SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="NAME, or NAME@sha256:... for one version.")]
Compared = Annotated[
    str, typer.Argument(help="Id of an evaluation, a version NAME@V, or a job's id (:base for its base).")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="What models were measured to do, and what they did.")
    commands = (
        ("run", run),
        ("list", list_evaluations),
        ("show", show),
        ("compare", compare),
        ("samples", samples),
    )
    for name, command in commands:
        group.command(name)(command)
    suites = typer.Typer(no_args_is_help=True, help="Suites: folders of lm-evaluation-harness tasks.")
    for name, command in (
        ("add", add_suite),
        ("list", list_suites),
        ("show", show_suite),
        ("remove", remove_suite),
    ):
        suites.command(name)(command)
    group.add_typer(suites, name="suites")
    canaries.register(group)
    app.add_typer(group, name="evals", rich_help_panel="Look")


def run(
    model: Annotated[
        str,
        typer.Argument(help="models/NAME@V, checkpoints/ID, a Hugging Face id, a folder, or builtin/..."),
    ],
    suites: Annotated[list[str], typer.Option("--suite", metavar="SUITE", help="Repeatable.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="REF", help="For the suites heldout and choices.")
    ] = None,
    max_samples: Annotated[int | None, typer.Option("--max-samples", min=1, help="Of each task.")] = None,
    name: Annotated[str, typer.Option("--name", help="Of the job.")] = "evaluation",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Measure, even if an equal evaluation is there.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", "-f", help="Stay until the job has ended.")] = False,
    timeout: Timeout = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure a model in suites: submits an eval_only job."""
    evaluation: dict[str, Any] = {"suites": suites, "use_cache": not no_cache}
    if max_samples is not None:
        evaluation["max_samples"] = max_samples
    spec: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": name,
        "model": {"name_or_path": model},
        "evaluation": evaluation,
    }
    if dataset is not None:
        spec["dataset"] = {"ref": dataset}
    with connect(project, persistent=True) as client:
        job = client.jobs.submit(spec)
        if wait:
            wait_for(client, [job.id], timeout_seconds=timeout, as_json=as_json)
        elif as_json:
            write_json(job)
        if not wait and not as_json:
            Screen().print(
                f"Submitted {job.id}; see `steelyard evals list --job {job.id}` when it has ended."
            )


def list_evaluations(
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Of this job alone.")] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="SUITE", help="In this suite alone.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many.")] = 20,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Read on after this one.")
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """List evaluations, newest first."""
    with connect(project) as client:
        page = client.evaluations.list(limit=limit, after=after, job=job, suite=suite)
    if as_json:
        write_json(page)
        return
    screen = Screen()
    screen.print(evaluation_table(page.data) if page.data else "Nothing was evaluated yet.")
    if page.has_more:
        screen.print(f"More: steelyard evals list --after {page.next}")


def show(evaluation: EvaluationName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show an evaluation: figures with intervals, settings, digests."""
    with connect(project) as client:
        view = client.evaluations.get(evaluation)
    if as_json:
        write_json(view)
        return
    screen = Screen()
    for part in evaluation_lines(view):
        screen.print(part)


def compare(a: Compared, b: Compared, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Set two models side by side, on the samples that both saw. Differences are B minus A."""
    with connect(project) as client:
        found = client.evaluations.compare(a, b)
    if as_json:
        write_json(found)
    else:
        Screen().print(comparison_table(found))


def samples(
    evaluation: EvaluationName,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    project: ProjectName = None,
) -> None:
    """Save the per-sample records of an evaluation as a Parquet file."""
    with connect(project) as client:
        data = client.evaluations.samples(evaluation)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise InvalidRequest(f"{out} can't be written: {error}", param="--out") from error
    Screen().print(f"Wrote {printable(str(out))}.")


def add_suite(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Task files (.yaml) and their data.")],
    name: Annotated[str | None, typer.Option("--name", help="Unset: the folder's.")] = None,
    organization: Annotated[
        str | None, typer.Option("--organization", metavar="ORG", help="For all projects of an organization.")
    ] = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a suite. The same files under the same name are one version."""
    with connect(project, persistent=True) as client:
        view = client.suites.add(folder, name=name, organization=organization)
    if as_json:
        write_json(view)
        return
    word = "Added" if view.created else "There already:"
    Screen().print(
        Text.assemble(f"{word} ", (printable(view.name), "bold"), f"@{view.digest}: {_tasks(view)}.")
    )


def list_suites(project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """List the suites of the project and its organization."""
    with connect(project) as client:
        found = client.suites.search()
    if as_json:
        write_json(ListView(data=found))
        return
    empty = "No suites yet; `steelyard evals suites add DIR` keeps one. heldout and choices are always there."
    content: Table | str = suite_table(found) if found else empty
    Screen().print(content)


def show_suite(suite: SuiteName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Show a version of a suite: tasks, files, digests."""
    name, digest = _parts(suite)
    with connect(project) as client:
        view = client.suites.get(name, digest)
    if as_json:
        write_json(view)
        return
    screen = Screen()
    for part in suite_lines(view):
        screen.print(part)


def remove_suite(suite: SuiteName, project: ProjectName = None, as_json: JsonFlag = False) -> None:
    """Let no new job name a suite. Results, and jobs that were pinned to it, keep it."""
    name, digest = _parts(suite)
    with connect(project, persistent=True) as client:
        view = client.suites.remove(name, digest)
    if as_json:
        write_json(view)
    else:
        Screen().print(f"{printable(view.name)}@{view.digest} is removed; results keep it.")


def _parts(suite: str) -> tuple[str, str | None]:
    name, _, digest = suite.partition("@")
    return name, digest or None


def _tasks(view: SuiteView) -> str:
    return f"{len(view.tasks)} task{'' if len(view.tasks) == 1 else 's'} ({', '.join(view.tasks[:5])})"
