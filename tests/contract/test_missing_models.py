"""Models that the platform knows are not there are refused at submission, with the field that names them."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.unit.hpo.searches import TRIAL

from steelyard.governance.access import ProjectId
from steelyard.jobs.pinning import pin
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.job import JOB_SPEC, EvalOnlySpec
from steelyard.specs.models import BUILTIN_MODELS
from steelyard.storage.database import Database

NOBODY = f"checkpoints/ckpt_{'0' * 26}"
MISSING = ("models/nope@1", "models/nope", "builtin/nope", NOBODY, "checkpoints/latest")
PERHAPS = (*BUILTIN_MODELS, "org/model", "/no/such/folder", "modelsfolder")
"""What only preparation can look for, beside what is there."""


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


def fine_tune(model: str) -> dict[str, Any]:
    return TRIAL | {"model": {"name_or_path": model}}


def evaluation(model: str) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "look",
        "model": {"name_or_path": model},
        "evaluation": {"suites": ["safety"]},
    }


def pipeline(model: str) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "rlhf",
        "name": "tone",
        "model": {"name_or_path": model},
        "dataset": {"ref": "pairs@v2"},
        "policy": {"method": "dpo", "max_steps": 5},
    }


def search(trial: dict[str, Any], path: str, values: tuple[str, ...]) -> dict[str, Any]:
    block = {
        "algorithm": "random",
        "metric": "heldout/loss",
        "direction": "minimize",
        "parameters": {path: {"type": "choice", "values": values}},
        "max_trials": 3,
    }
    return {
        "api_version": "steelyard/v1", "type": "hpo", "name": "search", "search": block, "trial": trial,
    }  # fmt: skip


async def refused(plane: ControlPlane, spec: dict[str, Any]) -> tuple[str | None, str]:
    """Return the field at fault and the words; a plan says the same."""
    body = json.dumps(spec).encode()
    submission = plane.services.submission
    with pytest.raises(InvalidSpec) as caught:
        await submission.submit(ADMIN, "default", body, None)
    with pytest.raises(InvalidSpec) as planned:
        await submission.plan(ADMIN, "default", body)
    assert planned.value.message == caught.value.message
    return caught.value.param, caught.value.message


@pytest.mark.parametrize("name", MISSING)
async def test_wherever_it_is_the_base(plane: ControlPlane, name: str) -> None:
    for spec in (fine_tune(name), evaluation(name), pipeline(name)):
        param, words = await refused(plane, spec)
        assert param == "model.name_or_path"
        assert name in words
    param, _ = await refused(plane, search(fine_tune(name), "model.name_or_path", (BUILTIN_MODELS[0],)))
    assert param == "trial.model.name_or_path"


@pytest.mark.parametrize("name", MISSING)
async def test_among_the_choices_of_a_search(plane: ControlPlane, name: str) -> None:
    spec = search(fine_tune(BUILTIN_MODELS[0]), "model.name_or_path", (BUILTIN_MODELS[0], name))
    param, _ = await refused(plane, spec)
    assert param == "search.parameters.model.name_or_path.values.1"


async def test_what_is_there_or_may_be_is_taken(plane: ControlPlane) -> None:
    """The data isn't there, and that is looked for after the models."""
    for name in PERHAPS:
        assert (await refused(plane, fine_tune(name)))[0] == "dataset.ref"
    spec = search(fine_tune(BUILTIN_MODELS[0]), "model.name_or_path", PERHAPS)
    assert (await refused(plane, spec))[0] == "trial.dataset.ref"


async def test_a_child_whose_base_vanished_is_made_and_fails_as_others_do(plane: ControlPlane) -> None:
    spec = JOB_SPEC.validate_json(json.dumps(evaluation("models/gone@1")))
    assert isinstance(spec, EvalOnlySpec)
    async with plane.database.transaction() as session:
        with pytest.raises(InvalidSpec, match="gone"):
            await pin(session, ProjectId("default"), spec)
        pinned, _ = await pin(session, ProjectId("default"), spec, begun=True)
    assert pinned == spec
