"""`schema`: the JSON Schemas of the job types, with no platform needed."""

from typing import Annotated

import typer

from steelyard.cli.options import JsonFlag
from steelyard.cli.output import write_json
from steelyard.kit.errors import NotFound
from steelyard.specs.job import JOB_SPEC, SPEC_CLASSES

JobTypeName = Annotated[
    str | None,
    typer.Argument(metavar="[TYPE]", help=f"{', '.join(SPEC_CLASSES)}; all of them where none is named."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schema", rich_help_panel="Submit")(show_schema)


def show_schema(job_type: JobTypeName = None, as_json: JsonFlag = False) -> None:
    """Print the JSON Schema of a job type, for editors and checks. JSON with or without --json."""
    if job_type is None:
        write_json(JOB_SPEC.json_schema())
        return
    if job_type not in SPEC_CLASSES:
        raise NotFound(
            f"There is no job type {job_type!r}; there are {', '.join(SPEC_CLASSES)}.", param="type"
        )
    write_json(SPEC_CLASSES[job_type].model_json_schema())
