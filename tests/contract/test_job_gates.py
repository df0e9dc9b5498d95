"""Gates of a job, judged over what its evaluation left in the database; and the report of a safety suite."""

import importlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.contract.test_evaluations_api import _carry_out, _own_process
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

import steelyard
from steelyard.datasets.store import BlobStore
from steelyard.evals.samples import SampleReader
from steelyard.evals.tracking import bases_of_run, changes_from_base, evaluations_of_run
from steelyard.jobs.registration import RegistrationService
from steelyard.jobs.weighing import JUDGED, weigh_job
from steelyard.kit.ids import new_id
from steelyard.specs.evaluations import MetricResult
from steelyard.specs.gates import Verdict
from steelyard.specs.states import Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import EvaluationRow, EventRow, JobRow

__all__ = ["_own_process"]

_TUNED, _BASE = "sha256:" + "1" * 64, "sha256:" + "2" * 64
_nothing: Any = None
_arrow: Any = importlib.import_module("pyarrow")
_parquet: Any = importlib.import_module("pyarrow.parquet")


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncGenerator[steelyard.AsyncClient]:
    async with steelyard.AsyncClient(api_url=plane.url, token=ADMIN_TOKEN) as client:
        yield client


@pytest.mark.training
async def test_a_safety_suite_from_submission_to_gates_and_report(
    plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    gates = [
        {"metric": "safety/pass_rate", "min": 0.01, "min_samples": 16},
        {"metric": "safety/refusal_rate", "min": 0.9, "confidence": 0.95},
        {"metric": "safety/canary_pass_rate", "min": 0.5},
    ]
    job = await client.jobs.submit(_spec({"suites": ["safety"], "max_samples": 2, "gates": gates}))
    registration = RegistrationService(plane.database, plane.folders, _nothing, _nothing, _nothing)
    before = await registration.register(job.id)
    assert (before.accepted, before.reason) == (False, Reason.GATE_FAILED)
    assert "was not measured" in before.message

    await _carry_out(plane, job.id, tmp_path)
    for _ in range(2):
        refused = await registration.register(job.id)
        assert (refused.accepted, refused.reason) == (False, Reason.GATE_FAILED)
    assert await _count(plane, job.id) == 2, "once without evidence, and once with it"

    judged = (await client.jobs.get(job.id)).gates
    assert judged is not None
    assert judged.verdict is Verdict.FAIL
    found = {each.gate.metric: each for each in judged.gates}
    assert found["safety/pass_rate"].verdict is Verdict.PASS
    assert found["safety/pass_rate"].n == 16
    assert found["safety/refusal_rate"].verdict is not Verdict.PASS
    assert found["safety/canary_pass_rate"].verdict is Verdict.NOT_ENOUGH_EVIDENCE

    (summary,) = (await client.evaluations.list(job=job.id)).data
    report = (await client.evaluations.get(summary.id)).safety
    assert report is not None
    assert {each.probe for each in report.probes} >= {"refusal", "bias", "secrets"}
    assert all(each.n == 2 and each.source and each.licence and each.limits for each in report.probes)
    untested = {each.what for each in report.not_tested}
    assert {"canary", "judge", "38 of 40 cases of refusal", "other languages"} <= untested


async def test_a_job_is_held_against_its_base_on_the_same_samples(
    plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    gate = {"metric": "safety/pass_rate", "max_regression": 0.1}
    view = await client.jobs.submit(_spec({"suites": ["safety"], "gates": [gate]}))
    reader = SampleReader(plane.folders.objects)
    job = await _job(plane, view.id)
    base = [1.0] * 90 + [0.0] * 10
    await _enter(plane, job, "base", _BASE, base, tmp_path)
    missing = await weigh_job(plane.database, reader, job, _TUNED)
    assert missing is not None
    assert missing.verdict is Verdict.NOT_ENOUGH_EVIDENCE

    await _enter(plane, job, "tuned", _BASE, base, tmp_path)
    of_another = await weigh_job(plane.database, reader, job, _TUNED)
    assert of_another is not None
    assert of_another.verdict is Verdict.NOT_ENOUGH_EVIDENCE, "the evidence is of another model's bytes"

    job.run_number = 1
    await _enter(plane, job, "tuned", _TUNED, [0.0, *base[1:]], tmp_path)
    found = await weigh_job(plane.database, reader, job, _TUNED)
    assert found is not None
    assert found.verdict is Verdict.PASS
    check = found.gates[0].checks[0]
    assert (check.method, check.n) == ("tango", 100)
    assert check.value == pytest.approx(-0.01)


async def test_a_report_says_how_a_model_stands_beside_its_base_and_where_it_can_not(
    plane: ControlPlane, client: steelyard.AsyncClient, tmp_path: Path
) -> None:
    view = await client.jobs.submit(_spec({"suites": ["safety"]}))
    async with plane.database.transaction() as session:
        stored = await session.get_one(JobRow, view.id)
        stored.lineage = stored.lineage | {"base_model": _BASE, "base_model_name": "builtin/small"}
    job = await _job(plane, view.id)
    tuned = [0.0] * 30 + [1.0] * 70
    await _enter(plane, job, "tuned", _TUNED, tuned, tmp_path, name="refusal_pass")
    (row,) = (await client.evaluations.list(job=view.id)).data
    alone = await client.evaluations.get(row.id)
    assert alone.base is not None
    assert alone.safety is not None
    assert "not measured: the base model builtin/small" in alone.base.message
    assert alone.safety.base_message == alone.base.message
    assert alone.safety.probes[0].regression is None

    await _enter(plane, job, "base", _BASE, [1.0] * 90 + [0.0] * 10, tmp_path, name="refusal_pass")
    found = await client.evaluations.get(row.id)
    assert found.safety is not None
    assert (found.safety.base, found.safety.base_message) == ("builtin/small", "")
    regression = found.safety.probes[0].regression
    assert regression is not None
    assert regression.difference == pytest.approx(-0.2)
    assert regression.interval is not None
    assert regression.interval[0] < -0.2 < regression.interval[1] < 0.0
    assert (regression.n, regression.test, regression.verdict) == (100, "mcnemar", "worse")
    base = next(each for each in (await client.evaluations.list(job=view.id)).data if each.id != row.id)
    shown = await client.evaluations.get(base.id)
    assert shown.base is not None
    assert "not trained here" in shown.base.message

    async with plane.database.transaction() as session:
        pairs = await bases_of_run(session, await evaluations_of_run(session, job))
    told = changes_from_base(pairs, SampleReader(plane.folders.objects))
    assert told["tuned/safety/refusal_pass_rate/change"] == regression.difference
    ends = [told[f"tuned/safety/refusal_pass_rate/change_{end}"] for end in ("low", "high")]
    assert tuple(ends) == regression.interval


def _spec(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "weigh",
        "model": {"name_or_path": "builtin/tiny-random"},
        "evaluation": evaluation,
    }


async def _job(plane: ControlPlane, job_id: str) -> JobRow:
    async with plane.database.transaction() as session:
        return await session.get_one(JobRow, job_id)


async def _count(plane: ControlPlane, job_id: str) -> int:
    async with plane.database.transaction() as session:
        query = select(func.count()).where(EventRow.job_id == job_id, EventRow.type == JUDGED)
        return await session.scalar(query) or 0


async def _enter(
    plane: ControlPlane,
    job: JobRow,
    subject: str,
    model: str,
    values: list[float],
    tmp_path: Path,
    name: str = "pass",
) -> None:
    """Enter a result as the collection does, with its samples in the store."""
    path = tmp_path / f"{new_id('file')}.parquet"
    ids = [f"sample-{at}" for at in range(len(values))]
    _parquet.write_table(_arrow.table({"sample_id": ids, f"value.{name}": values}), path)
    share = sum(values) / len(values)
    metric = MetricResult(
        name=f"{name}_rate", mean=share, standard_error=(share * (1 - share) / len(values)) ** 0.5,
        n=len(values), interval=(0.0, 1.0), method="wilson", higher_is_better=True, proportion=True,
        column=f"value.{name}",
    )  # fmt: skip
    async with plane.database.transaction() as session:
        session.add(
            EvaluationRow(
                id=new_id("eval"), project_id=job.project_id, job_id=job.id, run_number=job.run_number,
                attempt_id=None, subject=subject, model_name=subject, model_digest=model, suite="safety",
                suite_digest=_BASE, settings={}, settings_digest=_BASE, engine="test", n=len(values),
                samples_digest=BlobStore.at(plane.folders.objects).put_file(path), seconds=0.0,
                metrics=[metric.model_dump(mode="json")], digest=new_id("eval"), cached_from=None,
            )
        )  # fmt: skip
