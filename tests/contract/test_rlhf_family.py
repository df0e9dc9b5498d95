"""An RLHF job over a real database: stages follow each other on one reservation, and what fails ends it."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.contract.ingests import ingest, jsonl
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import HandClock, Pool, open_pool
from tests.households import Household

from steelyard import rlhf
from steelyard.jobs.families import FamilyService
from steelyard.kit.errors import BudgetExceeded, InvalidTransition
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import EventRow, JobRow

_PAIRS = [{"prompt": f"Ask {i}.", "chosen": f"Gladly: {i}.", "rejected": f"No, {i}!"} for i in range(60)]
_GOOD = {"reward/accuracy": 0.95, "reward/accuracy_n": 60.0}
_GPUS, _REWARD_HOURS, _POLICY_HOURS = 2, 1, 3


@dataclass
class Pipeline(Household):
    """A household whose families are pipelines."""

    @property
    def families(self) -> FamilyService:
        return FamilyService(self.pool.plane.database, {"rlhf": rlhf.next_step}, self.pool.clock)

    async def submit(self, **settings: Any) -> str:
        body = json.dumps(_spec(**settings)).encode()
        return (await self.pool.plane.services.submission.submit(ADMIN, "default", body, None)).job_id

    async def train(self, child: str, metrics: dict[str, float], hours: float, run: int = 0) -> None:
        """Run a stage for so long, and let it end well, registered."""
        attempt = await self.start(child, run)
        for _ in range(int(hours * 3600 / LEASE_SECONDS)):
            self.pool.clock.forward(LEASE_SECONDS)
            await self.pool.report(attempt)
        await self.pool.end(attempt)
        await _register(self.pool, child, metrics)
        await self.end(child, JobState.SUCCEEDED, run=run)


@pytest.fixture
async def house(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Pipeline]:
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        assert (await ingest(plane, jsonl(_PAIRS), name="pairs"))["state"] == "succeeded"
        house = Pipeline(await open_pool(plane, clock, LEASE_SECONDS))
        yield house
        await house.require_balance()


async def test_stages_draw_on_one_reservation_which_ends_with_the_job(house: Pipeline) -> None:
    await house.pool.set_budget(gpu_hours=20.0)
    job = await house.submit()
    assert await house.reserved() == _GPUS * (_REWARD_HOURS + _POLICY_HOURS)
    await house.look(job)
    (scorer,) = await house.children(job)
    assert (scorer.name, scorer.state) == ("aligned-reward", JobState.VALIDATING)
    assert await house.reserved() == 8, "a stage reserves nothing of its own"

    await house.train(scorer.id, _GOOD, 0.5)
    await house.look(job)
    _, policy = await house.children(job)
    assert policy.spec["online"]["reward_model"] == "models/aligned-reward@1"
    assert await house.reserved() == pytest.approx(7.0)
    await house.train(policy.id, {"policy/kl": 0.1}, 1.0)
    standing = await house.look(job)
    assert standing.chosen == policy.id
    await house.families.note_registration(job, 0, accepted=True)
    assert (await house.look(job)).over

    view = await house.pool.job(job)
    assert (view.state, view.children) == (JobState.SUCCEEDED, {"succeeded": 2})
    assert await house.reserved() == 0
    spent = (await house.pool.standing())["gpu_hours"].spent
    assert float(spent) == pytest.approx(_GPUS * 1.5)


async def test_a_budget_for_one_stage_alone_is_not_enough(house: Pipeline) -> None:
    await house.pool.set_budget(gpu_hours=7.0)
    with pytest.raises(BudgetExceeded):
        await house.submit()
    assert await house.reserved() == 0


async def test_a_weak_reward_model_costs_no_policy_and_no_retry_makes_one(house: Pipeline) -> None:
    job = await house.submit()
    await house.look(job)
    (scorer,) = await house.children(job)
    await house.train(scorer.id, {"reward/accuracy": 0.6, "reward/accuracy_n": 60.0}, 0.1)

    for run in range(2):
        assert (await house.look(job, run)).over
        view = await house.pool.job(job)
        assert (view.state, view.status_reason) == (JobState.FAILED, Reason.REWARD_MODEL_TOO_WEAK)
        assert len(await house.children(job)) == 1
        assert await house.reserved() == 0
        if run == 0:
            await house.pool.plane.services.commands.retry(ADMIN, "default", job)


async def test_a_retry_goes_on_from_the_stage_that_failed(house: Pipeline) -> None:
    job = await house.submit()
    await house.look(job)
    (scorer,) = await house.children(job)
    await house.train(scorer.id, _GOOD, 0.5)
    await house.look(job)
    _, policy = await house.children(job)
    await house.end(policy.id, JobState.FAILED, Reason.NAN_LOSS)
    assert (await house.look(job)).over
    view = await house.pool.job(job)
    assert (view.state, view.status_reason) == (JobState.FAILED, Reason.NAN_LOSS)
    assert f"stage policy ({policy.id}) failed" in (view.status_message or "")
    with pytest.raises(InvalidTransition, match=job):
        await house.pool.plane.services.commands.retry(ADMIN, "default", policy.id)

    await house.pool.plane.services.commands.retry(ADMIN, "default", job)
    assert await house.reserved() == _GPUS * _POLICY_HOURS, "the reward model needs nothing any more"
    await house.look(job, 1)
    states = {child.name: child.state for child in await house.children(job)}
    assert states == {"aligned-reward": JobState.SUCCEEDED, "aligned-ppo": JobState.VALIDATING}
    await house.train(policy.id, {}, 0.2, run=1)
    await house.look(job, 1)
    await house.families.note_registration(job, 1, accepted=True)
    assert (await house.look(job, 1)).over
    assert (await house.pool.job(job)).state is JobState.SUCCEEDED
    assert await house.reserved() == 0


async def test_its_events_tell_the_stages_and_what_allowed_the_policy(house: Pipeline) -> None:
    job = await house.submit()
    await house.look(job)
    (scorer,) = await house.children(job)
    assert "stage 1 of 2" in ((await house.pool.job(job)).status_message or "")
    await house.train(scorer.id, _GOOD, 0.1)
    await house.look(job)

    assert "stage 2 of 2" in ((await house.pool.job(job)).status_message or "")
    async with house.pool.plane.database.transaction() as session:
        query = select(EventRow.message).where(EventRow.job_id == job, EventRow.type == "family.child")
        first, second = await session.scalars(query.order_by(EventRow.id))
    assert f"reward_model is {scorer.id}" in first
    assert "orders 57 of 60 held-out pairs rightly (0.95)" in second


def _spec(**blocks: Any) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "rlhf",
        "name": "aligned",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "pairs"},
        "reward_model": {"max_steps": 2, "limits": {"max_runtime_seconds": _REWARD_HOURS * 3600}},
        "policy": {"method": "ppo", "max_steps": 2},
        "resources": {"gpus": _GPUS, "cpus": 1, "memory_gb": 1.0},
        "limits": {"max_runtime_seconds": _POLICY_HOURS * 3600},
        **blocks,
    }


async def _register(pool: Pool, job_id: str, metrics: dict[str, float]) -> None:
    """Write down a version, as registration does."""
    async with pool.plane.database.transaction() as session:
        job = await session.get_one(JobRow, job_id)
        job.metrics = metrics
        name = job.spec["register_as"]["model_name"]
        await session.execute(
            text("INSERT INTO models (project_id, name, latest_version) VALUES ('default', :name, 1)"),
            {"name": name},
        )
        await session.execute(
            text(
                "INSERT INTO model_versions (project_id, name, version, job_id, run_number, path,"
                " manifest_digest, lineage, metrics) VALUES ('default', :name, 1, :job, :run, '/none',"
                " 'sha256:0', '{}', '{}')"
            ),
            {"name": name, "job": job_id, "run": job.run_number},
        )
