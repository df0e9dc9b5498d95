"""The examples are valid, and are what users would write."""

from pathlib import Path

import pytest

from steelyard.cli.spec_input import read_spec
from steelyard.specs.job import JOB_SPEC, SPEC_CLASSES

EXAMPLES = Path(__file__).parents[3] / "examples" / "jobs"


@pytest.mark.parametrize("job_type", list(SPEC_CLASSES))
def test_each_type_has_a_valid_example(job_type: str) -> None:
    spec = read_spec(str(EXAMPLES / f"{job_type}.yaml"), [])

    assert spec.data["type"] == job_type


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid_and_survives_a_round_trip(path: Path) -> None:
    text = JOB_SPEC.dump_json(JOB_SPEC.validate_python(read_spec(str(path), []).data, strict=False))

    assert JOB_SPEC.dump_json(JOB_SPEC.validate_json(text)) == text
