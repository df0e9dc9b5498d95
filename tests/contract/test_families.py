"""Families over a real database: children are made once, draw on their parent, and do what it does."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import HandClock, open_pool
from tests.households import Household, search_spec

from steelyard.governance.audit.selection import Selection
from steelyard.governance.ledger import repository
from steelyard.governance.ledger.costs import Question
from steelyard.jobs.repository import JobFilter
from steelyard.kit.errors import BudgetExceeded, InvalidTransition, NotFound
from steelyard.specs.families import FamilyEnd
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, OutboxRow

HOUR = 3600


@pytest.fixture
async def house(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Household]:
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        house = Household(await open_pool(plane, clock, LEASE_SECONDS, 2))
        yield house
        await house.require_balance()


async def begun(house: Household, **settings: int) -> tuple[str, list[str]]:
    """Submit a search and let it make its first trials."""
    parent = await house.submit(**settings)
    await house.look(parent)
    return parent, [child.id for child in await house.children(parent)]


class TestChildren:
    async def test_they_are_ordinary_jobs_of_who_made_the_family(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        view, child = await house.pool.job(parent), await house.pool.job(first)
        assert (view.state, view.children, view.parent) == (JobState.RUNNING, {"validating": 2}, None)
        assert (child.type, child.state, child.parent) == ("fine_tune", JobState.VALIDATING, parent)
        assert (child.created_by, child.priority, child.children) == (view.created_by, view.priority, None)
        assert child.lineage["parent"] == parent
        assert {"config", "code", "environment"} <= child.lineage.keys()
        async with house.pool.plane.database.transaction() as session:
            topics = await session.execute(select(OutboxRow.topic, OutboxRow.key).order_by(OutboxRow.id))
            rows = [(row.topic, row.key) for row in topics]
        assert rows == [("reach_family", parent), ("start_job", first), ("start_job", second)]

    async def test_looking_again_makes_nothing_new(self, house: Household) -> None:
        parent, first = await begun(house)
        for _ in range(3):
            await house.look(parent)
        await asyncio.gather(*(house.look(parent) for _ in range(6)))
        assert [child.id for child in await house.children(parent)] == first

    async def test_one_that_ends_makes_room_for_the_next(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        await house.end(first, JobState.FAILED, Reason.NAN_LOSS)
        await house.look(parent)
        assert await house.states(parent) == ["failed", "validating", "validating"]

    async def test_an_order_that_cant_be_carried_out_fails_the_family_and_says_why(
        self, house: Household
    ) -> None:
        parent = await house.submit()
        house.steps.spoilt = {"limits": {"max_runtime_seconds": 2 * HOUR}}
        await house.look(parent)
        view = await house.pool.job(parent)
        assert (view.state, view.status_reason) == (JobState.FAILED, Reason.BAD_CONFIG)
        assert "reserved 3600 s for each" in (view.status_message or "")
        assert await house.children(parent) == []
        assert await house.reserved() == 0

    async def test_lists_hide_them_and_show_them_where_they_are_asked_for(self, house: Household) -> None:
        parent, children = await begun(house)
        async with house.pool.plane.http() as http:
            jobs = "/v1/projects/default/jobs"
            plain = (await http.get(jobs)).json()["data"]
            by_parent = (await http.get(jobs, params={"parent": parent})).json()["data"]
            everything = (await http.get(jobs, params={"children": True})).json()["data"]
            of_nobody = await http.get(jobs, params={"parent": "job_0"})
        assert [job["id"] for job in plain] == [parent]
        assert [job["id"] for job in by_parent] == children[::-1]
        assert [job["id"] for job in everything] == [*children[::-1], parent]
        assert (of_nobody.status_code, "job_0" in of_nobody.text) == (404, True)

    async def test_every_child_is_in_the_audit_trail_with_its_parent(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        page = await house.pool.plane.services.audit.search(
            ADMIN, "default", Selection(verb="job.submit", object_id=first), 10, None
        )
        (row,) = page.data
        assert row.actor == "system:system"
        assert row.detail == {"parent": parent, "on_behalf_of": "admin"}

    async def test_of_another_project_nobody_sees_any(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        async with house.pool.plane.database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))
        services = house.pool.plane.services
        for job in (parent, first):
            with pytest.raises(NotFound):
                await services.queries.get(ADMIN, "other", job)
            with pytest.raises(NotFound):
                await services.commands.cancel(ADMIN, "other", job)
        with pytest.raises(NotFound):
            await services.queries.search(ADMIN, "other", JobFilter(parent=parent), 10, None)

    async def test_a_child_of_another_projects_job_is_refused_by_the_database(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        async with house.pool.plane.database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))
        with pytest.raises(Exception, match="jobs_parent_fkey"):
            async with house.pool.plane.database.transaction() as session:
                await session.execute(
                    text("UPDATE jobs SET project_id = 'other' WHERE id = :id"), {"id": first}
                )
        assert (await house.pool.job(first)).parent == parent


class TestEnds:
    async def test_it_ends_when_its_children_have_and_names_the_chosen_one(self, house: Household) -> None:
        parent, (first, second) = await begun(house, trials=2)
        attempt = await house.start(first)
        await house.pool.finish(attempt)
        await house.end(second, JobState.FAILED)
        standing = await house.look(parent)
        assert (standing.chosen, standing.over) == (first, False)
        assert await house.reserved() > 0
        await house.families.note_registration(parent, 0, accepted=True)
        assert (await house.look(parent)).over
        view = await house.pool.job(parent)
        assert (view.state, view.status_message) == (JobState.SUCCEEDED, "trial-0000 is the best")
        assert await house.reserved() == 0

    async def test_a_refused_registration_fails_it(self, house: Household) -> None:
        parent, children = await begun(house, trials=2)
        for child in children:
            await house.end(child, JobState.FAILED)
        # From queued there is no way to success but over an attempt.
        assert (await house.look(parent)).over
        assert (await house.pool.job(parent)).status_reason == "no_trial_succeeded"

    async def test_whoever_is_still_at_work_is_stopped_first(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        attempt = await house.start(first)
        house.steps.end = FamilyEnd(False, "too_many_failed_trials", "enough is enough")
        assert not (await house.look(parent)).over
        house.steps.end = None
        assert await house.states(parent) == ["cancelling", "cancelling"]
        assert await house.leave(attempt) is JobState.CANCELLED
        await house.settle(second)
        assert await house.reserved() > 0
        assert (await house.look(parent)).over
        view = await house.pool.job(first)
        assert (view.status_reason, view.attempts[0].cause) == (Reason.FAMILY_OVER, Reason.FAMILY_OVER)
        assert (await house.pool.job(parent)).status_reason == "too_many_failed_trials"

    async def test_a_pruned_child_ends_as_that_and_is_never_tried_again(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        attempt = await house.start(first)
        house.steps.stops["trial-0000"] = Reason.PRUNED
        await house.look(parent)
        assert await house.leave(attempt) is JobState.CANCELLED
        view = await house.pool.job(first)
        assert (view.status_reason, view.status_message) == (Reason.PRUNED, "behind the others")
        assert (view.attempts[0].cause, view.retries_used) == (Reason.PRUNED, 0)
        with pytest.raises(InvalidTransition, match="pruned"):
            await house.pool.plane.services.commands.retry(ADMIN, "default", first)
        await house.look(parent)
        assert (await house.pool.job(parent)).children == {"pruned": 1, "validating": 2}

    async def test_who_asks_it_to_leave_later_hears_the_first_reason(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        attempt = await house.start(first)
        house.steps.stops["trial-0000"] = Reason.PRUNED
        await house.look(parent)
        order = await house.pool.plane.endings.request_stop(attempt.id, Reason.CANCELLED_BY_USER)
        assert order.reason == Reason.PRUNED

    async def test_each_end_is_told_once_however_often_it_is_looked_at(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        await house.end(first, JobState.FAILED, Reason.NAN_LOSS)
        for _ in range(3):
            await house.look(parent)
        attempt = await house.start(second)
        await house.pool.end(attempt, OutcomeKind.SUCCEEDED)
        await house.end(second, JobState.SUCCEEDED)
        await asyncio.gather(*(house.look(parent) for _ in range(4)))
        page, _ = await house.pool.plane.services.queries.events(ADMIN, "default", parent, None, 100)
        told = [each for each in page.data if each.type == "family.child_ended"]
        assert [(each.data["key"], each.data["state"], each.level) for each in told] == [
            ("trial-0000", "failed", "warn"),
            ("trial-0001", "succeeded", "info"),
        ]
        assert told[0].message == f"trial-0000 ({first}) failed: over"

    async def test_a_family_that_cant_begin_fails_and_makes_nothing(self, house: Household) -> None:
        parent = await house.submit()
        await house.families.give_up(parent, 0, Reason.MODEL_NOT_FOUND, "there is no such model")
        assert (await house.look(parent)).over
        view = await house.pool.job(parent)
        assert (view.state, view.status_reason) == (JobState.FAILED, Reason.MODEL_NOT_FOUND)
        assert await house.reserved() == 0


class TestCommands:
    async def test_pause_and_resume_take_the_children_along(self, house: Household) -> None:
        parent, (first, second) = await begun(house, gpus=2)
        commands = house.pool.plane.services.commands
        attempt = await house.start(first)
        await commands.pause(ADMIN, "default", parent)
        await house.look(parent)
        assert await house.states(parent) == ["pausing", "pausing"]
        await house.leave(attempt)
        assert (await house.look(parent)).state is JobState.PAUSING
        await house.settle(second)
        assert (await house.look(parent)).state is JobState.PAUSED
        assert await house.reserved() == 0
        assert {child.status_reason for child in await house.children(parent)} == {Reason.FAMILY_PAUSED}

        await commands.resume(ADMIN, "default", parent)
        assert await house.reserved() == 6
        assert (await house.look(parent)).state is JobState.RUNNING
        assert await house.states(parent) == ["resuming", "resuming"]

    async def test_a_child_that_a_person_paused_stays_paused(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        commands = house.pool.plane.services.commands
        await commands.pause(ADMIN, "default", first)
        await house.settle(first)
        await commands.pause(ADMIN, "default", parent)
        await house.look(parent)
        await house.settle(second)
        assert (await house.look(parent)).state is JobState.PAUSED
        await commands.resume(ADMIN, "default", parent)
        await house.look(parent)
        assert await house.states(parent) == ["paused", "resuming"]
        await commands.resume(ADMIN, "default", first)
        assert await house.states(parent) == ["resuming", "resuming"]

    async def test_cancel_ends_all(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        attempt = await house.start(first)
        await house.pool.plane.services.commands.cancel(ADMIN, "default", parent)
        await house.look(parent)
        await house.leave(attempt)
        await house.settle(second)
        assert (await house.look(parent)).over
        assert (await house.pool.job(parent)).state is JobState.CANCELLED
        assert await house.states(parent) == ["cancelled", "cancelled"]
        assert await house.reserved() == 0

    async def test_priority_is_given_to_all_and_to_those_to_come(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        await house.end(first, JobState.FAILED)
        await house.pool.plane.services.commands.set_priority(ADMIN, "default", parent, 900)
        await house.look(parent)
        assert [child.priority for child in await house.children(parent)] == [500, 900, 900]

    async def test_a_retry_starts_again_what_it_can(self, house: Household) -> None:
        parent, (bad, cancelled) = await begun(house, trials=2)
        await house.end(bad, JobState.FAILED, Reason.NAN_LOSS)
        await house.pool.plane.services.commands.cancel(ADMIN, "default", cancelled)
        await house.settle(cancelled)
        assert (await house.look(parent)).over
        assert await house.reserved() == 0

        await house.pool.plane.services.commands.retry(ADMIN, "default", parent)
        assert await house.reserved() == 2
        assert (await house.look(parent, run=0)).over
        for _ in range(2):
            assert not (await house.look(parent, run=1)).over
        assert await house.states(parent) == ["failed", "validating"]
        attempt = await house.start(cancelled, run=1)
        await house.pool.end(attempt)
        await house.end(cancelled, JobState.SUCCEEDED, run=1)
        assert (await house.look(parent, run=1)).chosen == cancelled

    async def test_a_retry_that_is_paused_before_its_first_look_starts_again_once_resumed(
        self, house: Household
    ) -> None:
        parent, (first, second) = await begun(house, trials=2)
        commands = house.pool.plane.services.commands
        await commands.cancel(ADMIN, "default", parent)
        await house.look(parent)
        for child in (first, second):
            await house.settle(child)
        assert (await house.look(parent)).over
        await commands.retry(ADMIN, "default", parent)
        await commands.pause(ADMIN, "default", parent)
        assert (await house.look(parent, run=1)).state is JobState.PAUSED
        await commands.resume(ADMIN, "default", parent)
        assert await house.reserved() == 4
        await house.look(parent, run=1)
        assert await house.states(parent) == ["validating", "validating"]

    async def test_a_large_family_is_paused_and_resumed_over_several_looks(
        self, house: Household, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("steelyard.jobs.families.MOST_ACTS", 2)
        parent, children = await begun(house, trials=5, side_by_side=5, gpus=1)
        commands = house.pool.plane.services.commands
        await commands.pause(ADMIN, "default", parent)
        for pausing in (2, 4, 5):
            await house.look(parent)
            assert (await house.states(parent)).count("pausing") == pausing
        for child in children:
            await house.settle(child)
        assert (await house.look(parent)).state is JobState.PAUSED
        await commands.resume(ADMIN, "default", parent)
        for state in (JobState.RESUMING, JobState.RESUMING, JobState.RUNNING):
            assert (await house.look(parent)).state is state
        assert set(await house.states(parent)) == {"resuming"}

    async def test_a_child_is_not_retried_or_resumed_without_its_family(self, house: Household) -> None:
        parent, (first, second) = await begun(house, trials=2)
        commands = house.pool.plane.services.commands
        await commands.pause(ADMIN, "default", parent)
        await house.look(parent)
        await house.settle(first)
        await house.settle(second)
        await house.look(parent)
        with pytest.raises(InvalidTransition, match=f"steelyard resume {parent}"):
            await commands.resume(ADMIN, "default", first)
        await commands.cancel(ADMIN, "default", parent)
        for child in (first, second):
            await house.look(parent)
            await house.settle(child)
        await house.look(parent)
        with pytest.raises(InvalidTransition, match=f"steelyard retry {parent}"):
            await commands.retry(ADMIN, "default", first)

    async def test_many_are_cancelled_by_their_families(self, house: Household) -> None:
        parent, _ = await begun(house)
        async with house.pool.plane.http() as http:
            answer = await http.post("/v1/projects/default/jobs/cancel", json={"all": True})
        assert [job["id"] for job in answer.json()["data"]] == [parent]


class TestMoney:
    async def test_all_is_reserved_at_once_and_children_reserve_nothing(self, house: Household) -> None:
        parent, (first, _) = await begun(house, trials=3, gpus=2, seconds=HOUR)
        assert await house.reserved() == 6
        cost = (await house.pool.job(first)).cost
        assert cost is not None
        assert cost.reserved_gpu_hours == 0
        await house.pool.set_budget(gpu_hours=11)
        with pytest.raises(BudgetExceeded):
            await house.submit(trials=3, gpus=2, seconds=HOUR)
        assert (await house.pool.job(parent)).state is JobState.RUNNING

    async def test_what_children_use_comes_out_of_it_and_is_the_parents_cost(self, house: Household) -> None:
        parent, (first, second) = await begun(house, trials=2)
        attempts = [await house.start(each) for each in (first, second)]
        house.pool.clock.forward(50)
        for attempt in attempts:
            await house.pool.end(attempt)
            await house.end(attempt.job_id, JobState.SUCCEEDED)
        costs = [(await house.pool.job(each)).cost for each in (first, second, parent)]
        hours = [float(cost.gpu_hours) for cost in costs if cost is not None]
        assert hours == pytest.approx([100 / HOUR, 100 / HOUR, 200 / HOUR])
        assert await house.reserved() == pytest.approx(4 - 200 / HOUR)
        report = await house.pool.plane.services.costs.report(ADMIN, "default", Question(("type",)))
        assert [row.group for row in report.rows] == [{"type": "hpo"}]

        await house.look(parent)
        await house.families.note_registration(parent, 0, accepted=True)
        await house.look(parent)
        assert await house.reserved() == 0

    async def test_a_resumed_family_reserves_what_is_left_of_it(self, house: Household) -> None:
        parent, (first, second) = await begun(house, trials=3, gpus=2)
        commands = house.pool.plane.services.commands
        attempt = await house.start(first)
        house.pool.clock.forward(60)
        await house.pool.end(attempt)
        await house.end(first, JobState.SUCCEEDED)
        await commands.pause(ADMIN, "default", parent)
        await house.look(parent)
        await house.settle(second)
        await house.look(parent)
        await commands.resume(ADMIN, "default", parent)
        # One is over and uses no more; two may run an hour each.
        assert await house.reserved() == 4

    async def test_a_budget_that_is_used_up_holds_the_whole_family_and_lets_it_go_as_one(
        self, house: Household
    ) -> None:
        parent, (first, second) = await begun(house, gpus=8)
        attempts = [await house.start(each) for each in (first, second)]
        house.pool.clock.forward(30)
        await house.pool.set_budget(gpu_hours="0.01")
        assert (await house.pool.report(attempts[0])).stop
        assert (await house.pool.job(parent)).state is JobState.PAUSING
        await house.look(parent)
        assert await house.states(parent) == ["pausing", "pausing"]
        assert (await house.pool.report(attempts[1])).stop
        for attempt in attempts:
            assert await house.leave(attempt) is JobState.PAUSED
        await house.look(parent)
        view = await house.pool.job(parent)
        assert (view.state, view.status_reason) == (JobState.PAUSED, Reason.BUDGET_EXHAUSTED)
        assert await house.reserved() == 0
        await house.pool.keeper.run_round()
        assert (await house.pool.job(parent)).state is JobState.PAUSED

        await house.pool.set_budget(gpu_hours=100)
        await house.pool.keeper.run_round()
        assert (await house.pool.job(parent)).state is JobState.RESUMING
        await house.look(parent)
        assert await house.states(parent) == ["resuming", "resuming"]

    async def test_a_child_that_may_not_start_holds_its_family(self, house: Household) -> None:
        parent, (first, _) = await begun(house, gpus=8)
        await house.pool.plane.admission.run_round()
        await house.pool.plane.lifecycle.move(first, 0, JobState.QUEUED, None, "waiting")
        await house.pool.plane.admission.run_round()
        await house.pool.set_budget(gpu_hours=0)
        launched = await house.pool.plane.lifecycle.start_attempt(first, 0, "0:1", "train")
        assert launched.attempt_id is None
        await house.look(parent)
        view = await house.pool.job(parent)
        assert (view.state, view.status_reason) == (JobState.PAUSING, Reason.BUDGET_EXHAUSTED)

    async def test_a_round_of_the_keeper_pauses_families_by_their_head(self, house: Household) -> None:
        parent, _ = await begun(house, gpus=8)
        await house.pool.set_budget(gpu_hours=0)
        await house.pool.keeper.run_round()
        assert (await house.pool.job(parent)).status_reason == Reason.BUDGET_EXHAUSTED
        assert await house.states(parent) == ["validating", "validating"]

    async def test_a_plan_shows_what_all_trials_could_use(self, house: Household) -> None:
        body = json.dumps(search_spec(trials=5, side_by_side=2, gpus=4, seconds=HOUR)).encode()
        plan = await house.pool.plane.services.submission.plan(ADMIN, "default", body)
        assert plan.max_gpu_hours == 20
        assert plan.cost is not None
        assert plan.cost.gpu_hours == 20
        (quota,) = plan.quotas
        # Nothing is guaranteed to the project, so all that may run at once is borrowed.
        assert quota.would_borrow_gpus == 8


class TestViews:
    async def test_explain_says_how_many_do_what_and_why_the_first_waits(self, house: Household) -> None:
        for number in range(2):
            await house.pool.start(await house.pool.submit(gpus=8), f"0:{number}")
        parent, (first, second) = await begun(house, gpus=8)
        await house.pool.plane.lifecycle.move(second, 0, JobState.QUEUED, None, "waiting")
        await house.pool.plane.lifecycle.move(first, 0, JobState.QUEUED, None, "waiting")
        view = await house.pool.plane.services.queries.explain(ADMIN, "default", parent)
        assert "children: 2 queued" in view.summary
        assert view.waiting_for[0].startswith(f"trial-0000 ({first}) is the first that waits: queued at")
        assert len(view.waiting_for) > 1

    async def test_explain_names_the_child_that_a_person_holds(self, house: Household) -> None:
        parent, (first, _) = await begun(house)
        await house.pool.plane.services.commands.pause(ADMIN, "default", first)
        await house.settle(first)
        view = await house.pool.plane.services.queries.explain(ADMIN, "default", parent)
        assert f"'steelyard resume {first}' lets it go on" in view.waiting_for[0]

    async def test_the_log_of_a_family_names_those_who_have_one(self, house: Household) -> None:
        parent, (first, second) = await begun(house)
        async with house.pool.plane.http() as http:
            answer = await http.get(f"/v1/projects/default/jobs/{parent}/logs")
        message = answer.json()["error"]["message"]
        assert answer.status_code == 422
        assert f"trial-0001 ({second}), trial-0000 ({first})" in message

    async def test_progress_is_children_that_are_over(self, house: Household) -> None:
        parent, (first, _) = await begun(house, trials=3)
        await house.end(first, JobState.FAILED)
        await house.look(parent)
        view = await house.pool.job(parent)
        assert (view.progress.step, view.progress.total_steps) == (1, 3)
        assert view.children == {"failed": 1, "validating": 2}

    async def test_a_submission_that_comes_twice_is_one_family(self, house: Household) -> None:
        body = json.dumps(search_spec()).encode()
        submit = house.pool.plane.services.submission.submit
        first = await submit(ADMIN, "default", body, "key")
        again = await submit(ADMIN, "default", body, "key")
        assert (first.job_id, again.replayed) == (again.job_id, True)
        assert await house.reserved() == 6


async def test_pokes_reach_the_family_for_what_matters(house: Household) -> None:
    parent, (first, second) = await begun(house)

    async def pokes() -> int:
        async with house.pool.plane.database.transaction() as session:
            query = select(OutboxRow.id).where(OutboxRow.topic == "reach_family", OutboxRow.key == parent)
            return len(list(await session.scalars(query)))

    before = await pokes()
    attempt = await house.start(first)
    assert await pokes() == before
    await house.pool.end(attempt, OutcomeKind.SUCCEEDED)
    await house.end(first, JobState.SUCCEEDED)
    assert await pokes() == before + 1
    await house.pool.plane.services.commands.pause(ADMIN, "default", second)
    await house.settle(second)
    assert await pokes() == before + 2


async def test_commands_and_looks_at_once_leave_all_of_one_mind(house: Household) -> None:
    """Whatever meets whatever: no deadlock, and in the end all are what was asked last."""
    parent, children = await begun(house, trials=6, side_by_side=4)
    commands = house.pool.plane.services.commands

    async def ask(verb: str, job: str) -> None:
        try:
            await getattr(commands, verb)(ADMIN, "default", job)
        except InvalidTransition:
            return

    for _ in range(3):
        await asyncio.gather(
            *(house.look(parent) for _ in range(3)),
            ask("pause", parent),
            *(ask("pause", child) for child in children),
            commands.set_priority(ADMIN, "default", parent, 700),
            *(ask("resume", child) for child in children),
            ask("resume", parent),
            *(house.settle(child) for child in children),
        )
    await commands.cancel(ADMIN, "default", parent)
    await house.look(parent)
    for child in await house.children(parent):
        await house.settle(child.id)
    assert (await house.look(parent)).over
    assert set(await house.states(parent)) == {"cancelled"}
    async with house.pool.plane.database.transaction() as session:
        assert await repository.open_reservations(session) == []
        rows = await session.scalars(select(JobRow.priority).where(JobRow.parent_id == parent))
        assert set(rows) == {700}
