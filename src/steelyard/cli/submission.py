"""`submit` and `plan`."""

from typing import Annotated

import typer
from rich.text import Text

from steelyard.cli.options import Assignments, JsonFlag, ProjectName, SpecPath
from steelyard.cli.output import Screen, write_json
from steelyard.cli.render import plan_summary, state_text
from steelyard.cli.session import connect
from steelyard.cli.spec_input import placing, read_spec
from steelyard.cli.waiting import Timeout, wait_for

_PANEL = "Submit"

Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="Your own key: however often you submit with it, there is one job.",
        show_default="a fresh one",
    ),
]
WaitFlag = Annotated[
    bool, typer.Option("--wait", "--follow", "-f", help="Stay and watch until the job has ended.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit", rich_help_panel=_PANEL)(submit)
    app.command("plan", rich_help_panel=_PANEL)(plan)


def submit(
    file: SpecPath,
    assignments: Assignments = None,
    idempotency_key: Key = None,
    wait: WaitFlag = False,
    timeout: Timeout = None,
    project: ProjectName = None,
    as_json: JsonFlag = False,
) -> None:
    """Submit a job, exactly once. Prints it at once, or with --wait as it ended."""
    spec = read_spec(file, assignments or [])
    with connect(project, persistent=True) as client:
        with placing(spec):
            job = client.jobs.submit(spec.data, idempotency_key=idempotency_key)
        if not as_json:
            Screen().print(
                Text.assemble("Submitted ", (job.name, "bold"), f" as {job.id}: ", state_text(job.state), ".")
            )
        if wait:
            wait_for(client, [job.id], timeout_seconds=timeout, as_json=as_json)
        elif as_json:
            write_json(job)
        else:
            Screen().print(f"Watch it with: steelyard wait {job.id}")


def plan(
    file: SpecPath, assignments: Assignments = None, project: ProjectName = None, as_json: JsonFlag = False
) -> None:
    """Say what a submission would do, and do nothing."""
    spec = read_spec(file, assignments or [])
    with connect(project) as client, placing(spec):
        view = client.jobs.plan(spec.data)
    if as_json:
        write_json(view)
    else:
        Screen().print(plan_summary(view))
