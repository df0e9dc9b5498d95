"""Options and arguments that commands share."""

from typing import Annotated

import typer

from steelyard.client.discovery import PROJECT_VARIABLE

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout and nothing else; errors go to stderr as JSON.")
]
ProjectName = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="NAME", envvar=PROJECT_VARIABLE, help="Whose jobs.", show_default="default"
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, or @latest.")]
JobNames = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids of jobs, or @latest.")]
SpecPath = Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; - is standard input.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Replace a field, such as training.max_steps=10 or evaluation.gates.0.min=0.5; repeatable.",
    ),
]
