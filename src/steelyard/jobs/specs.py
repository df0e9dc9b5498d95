"""Reading specs: from what somebody sent, and from a job's row."""

import json
from typing import Any

from pydantic import ValidationError

from steelyard.kit.errors import InvalidSpec
from steelyard.specs.faults import field_path
from steelyard.specs.job import JOB_SPEC, JobSpec
from steelyard.storage.tables import JobRow


def parse_spec(body: bytes) -> JobSpec:
    """Parse a job spec.

    Raises:
        InvalidSpec: `param` is the path of the first field at fault, `details` lists them all.
    """
    try:
        return JOB_SPEC.validate_json(body)
    except ValidationError as error:
        value = json.loads(body)
        faults = [
            {
                "param": ".".join(map(str, field_path(value, item))),
                "message": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors(include_url=False)
        ]
        first = faults[0]
        raise InvalidSpec(
            f"{first['param'] or 'spec'}: {first['message']}"
            + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
            + "; 'steelyard schema' prints what a spec may hold",
            param=first["param"] or None,
            faults=faults,
        ) from error


def stored_spec(job: JobRow) -> JobSpec:
    """Read a stored spec. It came through strict validation once, so JSON's forms are enough here."""
    return JOB_SPEC.validate_python(job.spec, strict=False)


def launched_block(job: JobRow) -> dict[str, Any]:
    """Return the stored spec that says what a launch is given: of a search, its trial's."""
    return job.spec.get("trial") or job.spec
