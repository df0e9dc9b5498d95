"""Trials over a real database: curves come once and from who holds the lease, and searches go by them."""

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import Attempt, HandClock, open_pool
from tests.households import Household, search_spec

from steelyard.governance.identity import Actor
from steelyard.hpo import next_step
from steelyard.jobs.curves import curves_of
from steelyard.jobs.families import FamilyService
from steelyard.kit.errors import InvalidRequest, InvalidSpec, NotFound, QuotaExceeded, StaleLease
from steelyard.specs.families import MOST_STARTS
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.reports import AttemptReport, CurvePoint
from steelyard.specs.states import JobState, Reason
from steelyard.specs.trials import TrialOrder, TrialView
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, OutboxRow, TrialPointRow

RATE = {"type": "float", "low": 1e-5, "high": 1e-3}
ASHA = {"type": "asha", "min_steps": 3, "reduction_factor": 3}
Losses = dict[int, float | None]


class Searches(Household):
    """Families that go by the searches' own rules, and by curves."""

    @property
    def families(self) -> FamilyService:
        """The worker's service."""
        return FamilyService(self.pool.plane.database, {"hpo": next_step}, self.pool.clock, curves=curves_of)

    async def search(self, trials: int = 3, **changes: Any) -> tuple[str, list[Attempt]]:
        """Begin a search with all its trials at work."""
        spec = search_spec(trials, trials, gpus=1)
        block = {**spec["search"], **changes}
        body = json.dumps({**spec, "search": block}).encode()
        parent = (await self.pool.plane.services.submission.submit(ADMIN, "default", body, None)).job_id
        await self.look(parent)
        return parent, [await self.start(child.id) for child in await self.children(parent)]

    async def tell(self, attempt: Attempt, losses: Losses, *, epoch: int | None = None) -> None:
        """Report points as the trainer would."""
        points = [CurvePoint(step=step, name="train/loss", value=value) for step, value in losses.items()]
        report = AttemptReport(
            epoch=epoch or attempt.epoch, phase="training", step=max(losses), points=points
        )
        actor = Actor("attempt", attempt.id, attempt_id=attempt.id)
        await self.pool.plane.services.reports.report(actor, attempt.id, report)

    async def curve(self, parent: str, number: int) -> list[tuple[int, float | None]]:
        """Return a trial's curve."""
        trial = (await self.trials(parent, curves=True))[number]
        return [(point.step, point.value) for point in trial.curve or []]

    async def trials(self, parent: str, **how: Any) -> Sequence[TrialView]:
        """Return a search's trials."""
        page = await self.pool.plane.services.trials.trials(ADMIN, "default", parent, 50, None, **how)
        return page.data

    async def pokes(self, parent: str) -> int:
        """Return how often the search's workflow was told to look."""
        async with self.pool.plane.database.transaction() as session:
            query = select(func.count()).where(OutboxRow.topic == "reach_family", OutboxRow.key == parent)
            return await session.scalar(query) or 0

    async def succeed(self, attempt: Attempt) -> None:
        """Let a trial end well."""
        await self.pool.end(attempt)
        await self.end(attempt.job_id, JobState.SUCCEEDED)


@pytest.fixture
async def house(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Searches]:
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        house = Searches(await open_pool(plane, clock, LEASE_SECONDS, 2))
        yield house
        await house.require_balance()


class TestCurves:
    async def test_the_same_points_again_change_nothing(self, house: Searches) -> None:
        parent, (first, *_) = await house.search()
        await house.tell(first, {1: 3.0, 2: 2.5})
        await house.tell(first, {1: 3.0, 2: 2.5, 3: None})
        assert await house.curve(parent, 0) == [(1, 3.0), (2, 2.5), (3, None)]
        assert await house.curve(parent, 1) == []

    async def test_a_later_epochs_points_stand(self, house: Searches) -> None:
        parent, (first, *_) = await house.search()
        await house.tell(first, {1: 3.0, 2: 9.0})
        await house.pool.end(first, OutcomeKind.CHECKPOINTED)
        second = await house.start(first.job_id)
        await house.tell(second, {2: 2.0, 3: 1.0})
        assert second.epoch > first.epoch
        assert await house.curve(parent, 0) == [(1, 3.0), (2, 2.0), (3, 1.0)]

    async def test_who_has_lost_the_lease_adds_nothing(self, house: Searches) -> None:
        parent, (first, *_) = await house.search()
        await house.pool.end(first, OutcomeKind.CHECKPOINTED)
        second = await house.start(first.job_id)
        with pytest.raises(StaleLease):
            await house.tell(first, {1: 9.0})
        with pytest.raises(StaleLease):
            await house.tell(first, {1: 9.0}, epoch=second.epoch)
        assert await house.curve(parent, 0) == []

    async def test_a_job_that_is_no_trial_has_no_curve(self, house: Searches) -> None:
        attempt = await house.start(await house.pool.submit(1))
        await house.tell(attempt, {1: 3.0})
        async with house.pool.plane.database.transaction() as session:
            assert await session.scalar(select(func.count()).select_from(TrialPointRow)) == 0

    async def test_only_the_curve_that_the_search_goes_by_is_kept(self, house: Searches) -> None:
        parent, (first, *_) = await house.search()
        actor = Actor("attempt", first.id, attempt_id=first.id)
        points = [CurvePoint(step=1, name="eval/loss", value=1.0)]
        report = AttemptReport(epoch=first.epoch, phase="training", step=1, points=points)
        await house.pool.plane.services.reports.report(actor, first.id, report)
        assert await house.curve(parent, 0) == []

    async def test_long_curves_take_few_rows(self, house: Searches) -> None:
        parent, (first, *_) = await house.search(pruning=ASHA)
        for start in range(1, 2000, 200):
            await house.tell(first, dict.fromkeys(range(start, start + 200), 1.0))
        curve = await house.curve(parent, 0)
        assert len(curve) < 256 + 3 * 128 + 8
        assert {3, 9, 27, 81, 243, 729} <= {step for step, _ in curve}

    async def test_a_search_looks_again_only_where_trials_are_judged(self, house: Searches) -> None:
        parent, (first, *_) = await house.search(pruning=ASHA)
        before = await house.pokes(parent)
        await house.tell(first, {1: 3.0, 2: 3.0})
        assert await house.pokes(parent) == before
        await house.tell(first, {3: 3.0})
        assert await house.pokes(parent) == before + 1
        await house.tell(first, {4: 3.0, 5: 3.0})
        assert await house.pokes(parent) == before + 1

    async def test_a_search_that_prunes_nothing_is_left_alone(self, house: Searches) -> None:
        parent, (first, *_) = await house.search()
        before = await house.pokes(parent)
        await house.tell(first, dict.fromkeys(range(1, 30), 3.0))
        assert await house.pokes(parent) == before


async def test_many_trials_are_made_in_several_looks_each_of_which_asks_for_the_next(
    house: Searches,
) -> None:
    body = json.dumps(search_spec(MOST_STARTS + 2, MOST_STARTS + 2, gpus=1)).encode()
    parent = (await house.pool.plane.services.submission.submit(ADMIN, "default", body, None)).job_id
    before = await house.pokes(parent)
    await house.look(parent)
    assert (len(await house.children(parent)), await house.pokes(parent)) == (MOST_STARTS, before + 1)
    await house.look(parent)
    await house.look(parent)
    assert (len(await house.children(parent)), await house.pokes(parent)) == (MOST_STARTS + 2, before + 1)


class TestPruning:
    async def test_who_is_behind_at_a_rung_leaves_and_the_rest_goes_on(self, house: Searches) -> None:
        parent, attempts = await house.search(pruning=ASHA)
        for attempt, loss in zip(attempts, (2.0, 1.0, 3.0), strict=True):
            await house.tell(attempt, {3: loss})
        await house.look(parent)
        assert await house.states(parent) == ["cancelling", "running", "cancelling"]
        directives = [await house.pool.report(each) for each in attempts]
        assert [each.stop for each in directives] == [True, False, True]
        for attempt in (attempts[0], attempts[2]):
            await house.leave(attempt)
        trials = await house.trials(parent)
        assert [(each.state, each.status_reason) for each in trials][::2] == [("cancelled", "pruned")] * 2
        assert "not among the best 1 of the 3 trials" in (trials[0].status_message or "")

    async def test_the_search_ends_with_what_is_left(self, house: Searches) -> None:
        parent, attempts = await house.search(pruning=ASHA)
        for attempt, loss in zip(attempts, (2.0, 1.0, 3.0), strict=True):
            await house.tell(attempt, {3: loss})
        await house.look(parent)
        for attempt in (attempts[0], attempts[2]):
            await house.leave(attempt)
        await house.tell(attempts[1], {4: 0.5})
        await house.succeed(attempts[1])
        standing = await house.look(parent)
        assert standing.chosen == attempts[1].job_id
        view = await house.pool.job(parent)
        assert view.best is not None
        assert (view.best.number, view.best.value, view.best.is_final) == (1, 0.5, True)
        await house.families.note_registration(parent, 0, accepted=True)
        await house.look(parent)
        assert (await house.pool.job(parent)).state is JobState.SUCCEEDED

    async def test_looking_again_after_a_point_is_the_same_whoever_comes_first(self, house: Searches) -> None:
        parent, attempts = await house.search(pruning=ASHA)
        for attempt, loss in zip(reversed(attempts), (3.0, 1.0, 2.0), strict=True):
            await house.tell(attempt, {3: loss})
            await house.look(parent)
            await house.look(parent)
        assert await house.states(parent) == ["cancelling", "running", "cancelling"]


class TestTrials:
    async def test_each_is_shown_with_what_it_is_worth(self, house: Searches) -> None:
        parent, attempts = await house.search()
        await house.tell(attempts[0], {1: 2.0})
        await house.tell(attempts[1], {2: 1.0})
        await house.succeed(attempts[0])
        await house.end(attempts[2].job_id, JobState.FAILED, Reason.NAN_LOSS)
        first, second, third = await house.trials(parent)
        assert (first.value, first.is_final, first.is_best) == (2.0, True, True)
        assert (second.value, second.is_final, second.is_best, second.step) == (1.0, False, False, 2)
        assert (third.value, third.state, third.status_reason) == (None, "failed", "nan_loss")
        assert first.parameters.keys() == {"training.learning_rate"}
        assert first.curve is None
        assert [each.number for each in await house.trials(parent, order="value")] == [0, 1, 2]

    @pytest.mark.parametrize(("direction", "order"), [("minimize", [2, 0, 1]), ("maximize", [1, 0, 2])])
    async def test_by_value_the_best_come_first(
        self, house: Searches, direction: str, order: list[int]
    ) -> None:
        parent, attempts = await house.search()
        await self._turn(house, parent, direction)
        for attempt, loss in zip(attempts, (2.0, 3.0, 1.0), strict=True):
            await house.tell(attempt, {1: loss})
            await house.succeed(attempt)
        trials = await house.trials(parent, order="value")
        assert [each.number for each in trials] == order
        assert [each.is_best for each in trials] == [True, False, False]

    async def test_pages_hold_each_once_in_both_orders(self, house: Searches) -> None:
        parent, attempts = await house.search(7)
        for attempt, loss in zip(attempts[:4], (2.0, 2.0, 1.0, 5.0), strict=True):
            await house.tell(attempt, {1: loss})
        orders: list[tuple[TrialOrder, list[int]]] = [
            ("number", list(range(7))),
            ("value", [2, 0, 1, 3, 4, 5, 6]),
        ]
        for order, expected in orders:
            found: list[int] = []
            after: str | None = None
            while True:
                page = await house.pool.plane.services.trials.trials(
                    ADMIN, "default", parent, 2, after, order
                )
                found += [trial.number for trial in page.data]
                after = page.next
                if not page.has_more:
                    break
            assert found == expected
        beyond = await house.pool.plane.services.trials.trials(ADMIN, "default", parent, 2, "99", "value")
        assert beyond.data == []

    async def test_foreign_and_other_jobs_have_none(self, house: Searches) -> None:
        parent, _ = await house.search()
        plain = await house.pool.submit(1)
        trials = house.pool.plane.services.trials.trials
        with pytest.raises(NotFound):
            await trials(ADMIN, "other", parent, 50, None)
        with pytest.raises(NotFound):
            await trials(ADMIN, "default", "job_none", 50, None)
        with pytest.raises(InvalidRequest, match="has no trials"):
            await trials(ADMIN, "default", plain, 50, None)
        with pytest.raises(InvalidRequest, match="no trial's number"):
            await trials(ADMIN, "default", parent, 50, "job_1")

    async def _turn(self, house: Searches, parent: str, direction: str) -> None:
        """Turn a stored search: of a loss, none would be maximized."""
        async with house.pool.plane.database.transaction() as session:
            job = await session.get_one(JobRow, parent)
            job.spec = {**job.spec, "search": {**job.spec["search"], "direction": direction}}


class TestSubmission:
    async def test_what_can_not_work_is_refused_with_its_path(self, house: Searches) -> None:
        wrong: dict[str, dict[str, Any]] = {
            "search.parameters.training.learning_rte": {"parameters": {"training.learning_rte": RATE}},
            "search.metric": {"metric": "heldout/loss"},
            "search.direction": {"direction": "maximize"},
            "search.parameters.training.learning_rate.step": {"algorithm": "grid"},
        }
        for param, changes in wrong.items():
            with pytest.raises(InvalidSpec) as caught:
                await house.search(**changes)
            assert caught.value.param == param

    async def test_what_no_node_holds_is_named_as_the_searchs_author_wrote_it(self, house: Searches) -> None:
        body = json.dumps(search_spec(4, 2, gpus=64)).encode()
        submission = house.pool.plane.services.submission
        with pytest.raises(QuotaExceeded, match=r"trial\.resources\.gpus") as caught:
            await submission.submit(ADMIN, "default", body, None)
        assert caught.value.param == "trial.resources.gpus"
        plan = await submission.plan(ADMIN, "default", body)
        assert any(message.startswith("trial.resources.gpus: 64") for message in plan.messages)

    async def test_a_plan_tells_of_trials_and_of_the_first_points(self, house: Searches) -> None:
        spec = search_spec(4, 2, gpus=1)
        plan = await house.pool.plane.services.submission.plan(ADMIN, "default", json.dumps(spec).encode())
        assert plan.max_gpu_hours == 4.0
        assert "4 trials at most, 2 at once" in plan.messages[0]
        assert [message.partition(":")[0] for message in plan.messages[1:4]] == [
            "trial-0000",
            "trial-0001",
            "trial-0002",
        ]
