"""Budgets over the services of a control plane: refused, warned, paused, resumed, and never far beyond."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import (
    FLAVOR,
    PRICE,
    Attempt,
    HandClock,
    Pool,
    gpu_spec,
    open_pool,
    price,
    report_nodes,
)

from steelyard.governance.audit.selection import Selection
from steelyard.governance.identity import Actor
from steelyard.governance.ledger import repository
from steelyard.governance.ledger.costs import Question
from steelyard.jobs.places import ask_to_leave
from steelyard.jobs.repository import lock_job
from steelyard.kit.errors import BudgetExceeded, InvalidRequest, NotFound
from steelyard.specs.budgets import BudgetView
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.reports import ResultReport
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
HOUR = 3600


@pytest.fixture
async def pool(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Pool]:
    clock = HandClock(NOON)
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        pool = await open_pool(plane, clock, LEASE_SECONDS)
        yield pool
        async with database.transaction() as session:
            assert await repository.imbalances(session) == []


class TestSubmission:
    async def test_a_submission_reserves_the_most_that_it_can_use(self, pool: Pool) -> None:
        await pool.submit(gpus=4, seconds=HOUR)
        figures = await pool.standing()
        assert figures["gpu_hours"].reserved == 4
        assert figures["money"].reserved == 4 * PRICE
        assert figures["gpu_hours"].left is None

    async def test_what_does_not_fit_is_refused_with_the_numbers_and_what_would_fit(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=10, money="20")
        await pool.submit(gpus=4, seconds=HOUR)

        async with pool.plane.http() as http:
            answer = await http.post("/v1/projects/default/jobs", json=gpu_spec(8, HOUR))

        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (402, "budget_exceeded", "budget_error")
        assert error["details"]["units"] == {
            "gpu_hours": {"limit": "10", "spent": "0", "reserved": "4", "left": "6", "asked": "8"},
            "money": {"limit": "20", "spent": "0", "reserved": "14.4", "left": "5.6", "asked": "28.8"},
        }
        trail = await pool.plane.services.audit.search(ADMIN, None, Selection(outcome="refused"), 10, None)
        (row,) = trail.data
        assert (row.verb, row.project_id, row.request_id) == ("job.submit", "default", error["request_id"])
        assert (row.source, row.detail["code"]) == ("127.0.0.1", "budget_exceeded")
        fitting = error["details"]["fitting_max_runtime_seconds"]
        assert f"{fitting} would fit" in error["message"]
        with pytest.raises(BudgetExceeded):
            await pool.submit(gpus=8, seconds=fitting + 1)
        await pool.submit(gpus=8, seconds=fitting)

    async def test_a_refused_submission_leaves_nothing_and_its_key_is_free(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=1)
        body = json.dumps(gpu_spec(4, HOUR)).encode()
        submit = pool.plane.services.submission.submit
        with pytest.raises(BudgetExceeded):
            await submit(ADMIN, "default", body, "key")
        await pool.set_budget(gpu_hours=5)
        first = await submit(ADMIN, "default", body, "key")
        assert (await submit(ADMIN, "default", body, "key")).job_id == first.job_id
        assert (await pool.standing())["gpu_hours"].reserved == 4

    async def test_cpu_jobs_are_free_even_of_an_empty_budget(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=0, money=0)
        job = await pool.job(await pool.submit(gpus=0))
        assert job.cost is not None
        assert job.cost.reserved_gpu_hours == 0

    async def test_a_plan_shows_cost_and_what_the_budget_says(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=10)
        plan = pool.plane.services.submission.plan
        good = (await plan(ADMIN, "default", json.dumps(gpu_spec(4, HOUR)).encode())).cost
        bad = await plan(ADMIN, "default", json.dumps(gpu_spec(8, 2 * HOUR)).encode())

        assert good is not None
        assert (good.gpu_hours, good.money, good.flavor) == (4, 4 * PRICE, FLAVOR)
        assert (good.refusal, good.budget.state) == (None, "ok")
        assert bad.cost is not None
        assert bad.cost.refusal in bad.messages
        assert (await pool.standing())["gpu_hours"].reserved == 0

    async def test_a_fixed_period_allows_nothing_outside_its_days(self, pool: Pool) -> None:
        await pool.set_budget(period="fixed", starts_on="2026-06-01", ends_on="2026-06-30", gpu_hours=100)
        with pytest.raises(BudgetExceeded, match="today is not in it"):
            await pool.submit()
        pool.clock.now = datetime(2026, 6, 1, tzinfo=UTC)
        await pool.submit()


class TestLife:
    async def test_metering_moves_reserved_to_spent_and_the_end_gives_back_the_rest(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        for _ in range(10):
            pool.clock.forward(30)
            await pool.report(attempt)
        figures = await pool.standing()
        assert figures["gpu_hours"].spent + figures["gpu_hours"].reserved == 4
        assert figures["money"].spent == Decimal("1.2")

        pool.clock.forward(10)
        await pool.finish(attempt)

        figures = await pool.standing()
        assert (figures["money"].spent, figures["money"].reserved) == (Decimal("1.24"), 0)
        cost = (await pool.job(attempt.job_id)).cost
        assert cost is not None
        assert (cost.money, cost.reserved_gpu_hours) == (Decimal("1.24"), 0)

    async def test_a_preempted_attempt_is_paid_for_and_its_reservation_goes_on(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        attempt = await pool.start(job)
        pool.clock.forward(20)
        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        await pool.plane.lifecycle.move(job, 0, JobState.QUEUED, Reason.PREEMPTED, "again", release=True)
        figures = await pool.standing()
        assert figures["money"].spent == Decimal("0.08")
        assert figures["money"].reserved == 4 * PRICE - Decimal("0.08")

    async def test_a_place_is_paid_for_while_no_attempt_runs_in_it(self, pool: Pool) -> None:
        """From its grant to its return: before the first attempt, between attempts, after the last one."""
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.plane.lifecycle.move(job, 0, JobState.QUEUED, None, "waits")
        assert await pool.plane.admission.run_round() == 1
        pool.clock.forward(7)
        first = await pool.launch(job, "0:1")
        pool.clock.forward(20)
        await pool.end(first, OutcomeKind.FAILED)
        await pool.plane.lifecycle.move(job, 0, JobState.RECOVERING, Reason.NODE_LOST, "again")
        for _ in range(2):
            pool.clock.forward(25)
            await pool.keeper.run_round()
        pool.clock.forward(10)
        second = await pool.launch(job, "0:2")
        pool.clock.forward(20)
        # The trainer's last word comes before the executor has seen it go.
        done = Outcome(
            kind=OutcomeKind.SUCCEEDED, exit_code=ExitCode.DONE, reason=Reason.COMPLETED, message="", step=1
        )
        actor = Actor("attempt", second.id, attempt_id=second.id)
        result = ResultReport(epoch=second.epoch, outcome=done)
        await pool.plane.services.reports.publish_result(actor, second.id, result)
        pool.clock.forward(5)
        await pool.end(second)
        pool.clock.forward(25)
        await pool.plane.lifecycle.move(job, 0, JobState.SUCCEEDED, None, "registered", release=True)
        pool.clock.forward(1000)
        await pool.keeper.run_round()
        figures = await pool.standing()
        seconds = 7 + 20 + 50 + 10 + 20 + 30
        assert figures["gpu_hours"].spent == round(Decimal(4 * seconds) / 3600, 9)
        assert figures["money"].spent == Decimal(4 * seconds) / 1000
        assert figures["gpu_hours"].reserved == 0

    async def test_a_place_that_nobody_keeps_house_for_costs_one_lease(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.plane.lifecycle.move(job, 0, JobState.QUEUED, None, "waits")
        await pool.plane.admission.run_round()
        pool.clock.forward(20 * LEASE_SECONDS)
        await pool.plane.lifecycle.move(job, 0, JobState.FAILED, None, "over", release=True)
        assert (await pool.standing())["money"].spent == Decimal(4) * Decimal(LEASE_SECONDS) / 1000

    async def test_a_place_taken_back_before_its_attempt_is_paid_for_once(self, pool: Pool) -> None:
        """Whoever takes it back posts nothing: the worker does, or who moves the job next."""
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.plane.lifecycle.move(job, 0, JobState.QUEUED, None, "waits")
        await pool.plane.admission.run_round()
        pool.clock.forward(5)
        async with pool.plane.database.transaction() as session:
            row = await lock_job(session, job)
            assert await ask_to_leave(session, row, Reason.PREEMPTED, "make room", pool.clock())
        assert (await pool.standing())["money"].spent == 0
        pool.clock.forward(500)
        for _ in range(2):
            await pool.keeper.run_round()
            assert (await pool.standing())["money"].spent == Decimal("0.02")
        await report_nodes(pool.plane, 1)
        await pool.plane.admission.run_round()
        pool.clock.forward(5)
        await pool.plane.lifecycle.move(job, 0, JobState.FAILED, None, "over", release=True)
        assert (await pool.standing())["money"].spent == Decimal("0.04")

    async def test_an_end_renews_no_lease_and_a_spent_budget_gives_none(self, pool: Pool) -> None:
        """All else is dead: what the attempt's lease covered, and nothing for a place granted after that."""
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        late = await pool.submit(gpus=4, seconds=HOUR)
        await pool.set_budget(money="0.01")
        pool.clock.forward(LEASE_SECONDS - 1)
        await pool.end(attempt, OutcomeKind.FAILED)
        await pool.plane.lifecycle.move(late, 0, JobState.QUEUED, None, "waits")
        await report_nodes(pool.plane, 1)
        assert await pool.plane.admission.run_round() == 1
        pool.clock.forward(100 * LEASE_SECONDS)
        for job in (attempt.job_id, late):
            await pool.plane.lifecycle.move(job, 0, JobState.FAILED, None, "over", release=True)
        assert (await pool.standing())["money"].spent == Decimal(4) * Decimal(LEASE_SECONDS) / 1000

    async def test_a_budget_that_runs_out_between_attempts_pauses_the_job(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        await pool.set_budget(money="0.10")
        await pool.end(attempt, OutcomeKind.FAILED)
        await pool.plane.lifecycle.move(attempt.job_id, 0, JobState.RECOVERING, Reason.NODE_LOST, "again")
        for _ in range(4):
            pool.clock.forward(31)
            await pool.keeper.run_round()
        job = await pool.job(attempt.job_id)
        assert job.status_reason == Reason.BUDGET_EXHAUSTED
        await pool.plane.lifecycle.move(attempt.job_id, 0, JobState.PAUSED, None, "x", release=True)
        spent = (await pool.standing())["money"].spent
        assert Decimal("0.10") <= spent <= Decimal("0.10") + Decimal(4) * Decimal(LEASE_SECONDS) / 1000

    async def test_pause_releases_and_resume_reserves_what_is_left_of_the_runtime(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        attempt = await pool.start(job)
        pool.clock.forward(36)
        commands = pool.plane.services.commands
        await commands.pause(ADMIN, "default", job)
        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        await pool.plane.lifecycle.move(job, 0, JobState.PAUSED, Reason.PAUSED_BY_USER, "x", release=True)
        assert (await pool.standing())["gpu_hours"].reserved == 0

        await commands.resume(ADMIN, "default", job)

        assert (await pool.standing())["gpu_hours"].reserved == Decimal("3.96")

    async def test_retry_reserves_again_or_is_refused(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.plane.lifecycle.move(job, 0, JobState.FAILED, Reason.BAD_CONFIG, "no")
        assert (await pool.standing())["gpu_hours"].reserved == 0
        await pool.set_budget(gpu_hours=3)
        with pytest.raises(BudgetExceeded):
            await pool.plane.services.commands.retry(ADMIN, "default", job)
        await pool.set_budget(gpu_hours=4)
        await pool.plane.services.commands.retry(ADMIN, "default", job)
        assert (await pool.standing())["gpu_hours"].reserved == 4

    async def test_what_a_fault_left_reserved_or_metered_is_found(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit())
        pool.clock.forward(5)
        async with pool.plane.database.transaction() as session:
            await session.execute(text("UPDATE jobs SET state = 'failed'"))
            await session.execute(text("UPDATE attempts SET state = 'ended'"))
        assert await pool.keeper.reconcile() == 2
        assert await pool.keeper.reconcile() == 0
        figures = await pool.standing()
        assert (figures["gpu_hours"].reserved, figures["money"].spent) == (0, Decimal("0.02"))
        assert (await pool.report_or_none(attempt)) is None


class TestLimits:
    async def test_a_soft_limit_warns_once(self, pool: Pool) -> None:
        await pool.set_budget(soft_gpu_hours="0.05")
        attempt = await pool.start(await pool.submit(gpus=4))
        for _ in range(4):
            pool.clock.forward(30)
            await pool.report(attempt)
            await pool.keeper.run_round()
        assert await _events(pool, attempt.job_id, "budget.soft_limit") == 1
        assert await _audited(pool, "budget.soft_limit") == 1
        assert (await _budget(pool)).state == "warned"
        await pool.set_budget(soft_gpu_hours="0.06")
        await pool.keeper.run_round()
        assert await _audited(pool, "budget.soft_limit") == 2

    async def test_a_lowered_limit_pauses_and_a_raised_one_resumes(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=10)
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        queued = await pool.submit(gpus=1, seconds=HOUR, name="queued")
        pool.clock.forward(30)
        await pool.report(attempt)
        await pool.set_budget(gpu_hours="0.01")

        await pool.keeper.run_round()

        job = await pool.job(attempt.job_id)
        assert (job.state, job.status_reason) == (JobState.PAUSING, Reason.BUDGET_EXHAUSTED)
        assert (await pool.report(attempt)).stop
        assert (await pool.job(queued)).status_reason == Reason.BUDGET_EXHAUSTED
        await _leave(pool, attempt)
        job = await pool.job(attempt.job_id)
        assert (job.state, job.status_reason) == (JobState.PAUSED, Reason.BUDGET_EXHAUSTED)
        assert job.attempts[0].cause == Reason.BUDGET_EXHAUSTED
        assert "budget of 0.01 GPU-hours" in (job.status_message or "")
        with pytest.raises(BudgetExceeded):
            await pool.plane.services.commands.resume(ADMIN, "default", attempt.job_id)
        await pool.keeper.run_round()
        assert (await pool.job(attempt.job_id)).state is JobState.PAUSED

        await pool.set_budget(gpu_hours=10)
        await pool.keeper.run_round()

        assert (await pool.job(attempt.job_id)).state is JobState.RESUMING
        assert await _audited(pool, "budget.set") == 3

    async def test_a_new_period_resumes_the_highest_priority_first(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=8)
        low, high, small = [
            await _paused_by_budget(pool, gpus, priority) for gpus, priority in ((4, 100), (6, 900), (1, 50))
        ]
        await pool.set_budget(gpu_hours="7.5")
        pool.clock.now = datetime(2026, 6, 1, tzinfo=UTC)

        await pool.keeper.run_round()

        states = {job: (await pool.job(job)).state for job in (low, high, small)}
        assert states == {low: JobState.PAUSED, high: JobState.RESUMING, small: JobState.RESUMING}

    async def test_what_a_person_pauses_stays_paused(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=10)
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        pool.clock.forward(30)
        await pool.set_budget(gpu_hours=0)
        await pool.keeper.run_round()
        await pool.plane.services.commands.pause(ADMIN, "default", attempt.job_id)
        await _leave(pool, attempt)
        await pool.set_budget(gpu_hours=10)
        await pool.keeper.run_round()
        assert (await pool.job(attempt.job_id)).state is JobState.PAUSED

    async def test_no_attempt_starts_on_a_budget_that_is_used_up(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.plane.lifecycle.move(job, 0, JobState.QUEUED, None, "waiting")
        await pool.plane.admission.run_round()
        await pool.set_budget(money=0)

        launched = await pool.plane.lifecycle.start_attempt(job, 0, "0:1", "train")

        assert (launched.attempt_id, launched.orders.desired) == (None, "pause")
        assert (await pool.job(job)).status_reason == Reason.BUDGET_EXHAUSTED

    async def test_explain_offers_what_helps_and_no_resume_that_is_refused(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=8)
        job = await _paused_by_budget(pool, 4, 500)
        view = await pool.plane.services.queries.explain(ADMIN, "default", job)
        assert "steelyard budget set" in view.summary
        assert "resume" not in view.summary

    async def test_removing_a_budget_lets_everything_go_on(self, pool: Pool) -> None:
        await pool.set_budget(gpu_hours=8)
        job = await _paused_by_budget(pool, 4, 500)
        await pool.plane.services.budgets.remove(ADMIN, "default")
        await pool.keeper.run_round()
        assert (await pool.job(job)).state is JobState.RESUMING
        with pytest.raises(NotFound):
            await pool.plane.services.budgets.remove(ADMIN, "default")


class TestOvershoot:
    """Four GPUs run into a limit of ten GPU-minutes; a lease is a minute."""

    bound = Decimal(4 * LEASE_SECONDS) / HOUR

    async def test_with_the_worker_dead_the_api_stops_it(self, pool: Pool) -> None:
        attempt = await self._running(pool)
        for _ in range(300):
            pool.clock.forward(1)
            if (await pool.report(attempt)).stop:
                break
        else:
            pytest.fail("never told to stop")
        # It is deaf, and reports on.
        for _ in range(300):
            pool.clock.forward(1)
            assert (await pool.report(attempt)).lease_seconds <= LEASE_SECONDS
        await self._check(pool)

    async def test_with_the_api_dead_the_worker_stops_it(self, pool: Pool) -> None:
        attempt = await self._running(pool)
        for _ in range(300):
            pool.clock.forward(1)
            await pool.keeper.run_round()
        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        await self._check(pool, reached=False)

    async def test_with_both_dead_it_is_charged_one_lease(self, pool: Pool) -> None:
        attempt = await self._running(pool)
        for _ in range(110):
            pool.clock.forward(1)
            await pool.report(attempt)
        before = (await pool.standing())["gpu_hours"].spent
        pool.clock.forward(7 * 24 * HOUR)
        await pool.keeper.run_round()
        await pool.end(attempt, OutcomeKind.CHECKPOINTED)
        after = (await pool.standing())["gpu_hours"].spent
        assert after - before <= self.bound
        await self._check(pool, reached=False)

    async def test_a_rise_of_the_price_counts_from_the_next_posting(self, pool: Pool) -> None:
        await pool.set_budget(money=1)
        attempt = await pool.start(await pool.submit(gpus=4, seconds=200))
        pool.clock.forward(20)
        assert not (await pool.report(attempt)).stop
        await price(pool.plane.database, FLAVOR, PRICE * 100)
        pool.clock.forward(20)
        assert (await pool.report(attempt)).stop

    async def _running(self, pool: Pool) -> Attempt:
        job = await pool.submit(gpus=4, seconds=HOUR)
        await pool.set_budget(gpu_hours=str(Decimal(10) / 60)[:8])
        return await pool.start(job)

    async def _check(self, pool: Pool, *, reached: bool = True) -> None:
        figures = (await pool.standing())["gpu_hours"]
        assert figures.limit is not None
        assert figures.spent <= figures.limit + self.bound
        if reached:
            assert figures.spent >= figures.limit


class TestReports:
    async def test_costs_by_any_group_and_as_csv_of_the_day(self, pool: Pool) -> None:
        for team, gpus in (("red", 1), ("red", 2), ("blue", 4)):
            attempt = await pool.start(await pool.submit(gpus=gpus, tags={"team": team}))
            pool.clock.forward(36)
            await pool.finish(attempt)
        costs = pool.plane.services.costs

        by_team = await costs.report(ADMIN, "default", Question(("tag:team", "type")))
        by_day = await costs.report(ADMIN, "default", Question(("day", "user", "flavor", "project")))

        assert [(row.group["tag:team"], row.gpu_hours, row.jobs) for row in by_team.rows] == [
            ("blue", Decimal("0.04"), 1),
            ("red", Decimal("0.03"), 2),
        ]
        assert by_day.rows[0].group == {
            "day": "2026-05-20",
            "user": "admin",
            "flavor": FLAVOR,
            "project": "default",
        }
        assert by_day.gpu_hours == Decimal("0.07")
        assert (by_day.since, by_day.until) == (date(2026, 5, 1), date(2026, 5, 31))

    async def test_an_organization_s_owner_sees_all_its_projects(self, pool: Pool) -> None:
        async with pool.plane.database.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('idle')"))
        attempt = await pool.start(await pool.submit(gpus=4))
        pool.clock.forward(36)
        await pool.finish(attempt)
        await pool.set_budget(gpu_hours=5)

        async with pool.plane.http() as http:
            report = (await http.get("/v1/organizations/default/costs?group_by=project,day")).json()
            budgets = (await http.get("/v1/organizations/default/budgets")).json()["data"]
            unknown = await http.get("/v1/organizations/nobody/costs")

        assert report["rows"] == [
            {
                "group": {"project": "default", "day": "2026-05-20"},
                "gpu_hours": "0.04",
                "money": "0.144",
                "jobs": 1,
            }
        ]
        spent = {view["project"]: view["figures"][0]["spent"] for view in budgets}
        assert spent == {"default": "0.04", "idle": "0"}
        assert [view["state"] for view in budgets] == ["ok", "unlimited"]
        assert unknown.status_code == 404

    async def test_the_forecast_follows_the_pace_or_the_reservations(self, pool: Pool) -> None:
        attempt = await pool.start(await pool.submit(gpus=8, seconds=HOUR))
        pool.clock.forward(45)
        await pool.report(attempt)
        report = await pool.plane.services.costs.report(ADMIN, "default", Question())
        assert report.forecast is not None
        assert report.forecast.gpu_hours == 8  # what is reserved is more than the pace of a month so far

        await pool.finish(attempt)
        report = await pool.plane.services.costs.report(ADMIN, "default", Question())
        assert report.forecast is not None
        gone = (pool.clock.now - datetime(2026, 5, 1, tzinfo=UTC)).total_seconds()
        pace = float(report.gpu_hours) * 31 * 86_400 / gone
        assert float(report.forecast.gpu_hours) == pytest.approx(pace, rel=1e-5)

        past = Question(since=date(2026, 4, 1), until=date(2026, 4, 30))
        assert (await pool.plane.services.costs.report(ADMIN, "default", past)).forecast is None

    @pytest.mark.parametrize(
        ("question", "param"),
        [
            (Question(("colour",)), "group_by"),
            (Question(since=date(2026, 5, 2), until=date(2026, 5, 1)), "until"),
            (Question(since=date(2000, 1, 1), until=date(2026, 5, 1)), "since"),
        ],
    )
    async def test_bad_questions_name_the_field(self, pool: Pool, question: Question, param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await pool.plane.services.costs.report(ADMIN, "default", question)
        assert caught.value.param == param

    async def test_a_sum_that_somebody_changed_is_named(self, pool: Pool, superuser: Engine) -> None:
        attempt = await pool.start(await pool.submit(gpus=4, seconds=HOUR))
        pool.clock.forward(36)
        await pool.finish(attempt)
        async with pool.plane.http() as http:
            path = "/v1/projects/default/ledger/verification"
            whole = (await http.get(path)).json()
            assert (whole["faults"], whole["transactions"]) == ([], 3)
            with superuser.connect() as connection:
                connection.execute(text("UPDATE ledger_days SET money = money - 1"))
                connection.execute(text("UPDATE ledger_reservations SET gpu_seconds = 5"))
            found = (await http.get(path)).json()["faults"]
            assert found == [f"reservation {attempt.job_id}", "day default 2026-05-20"]
            with superuser.connect() as connection:
                connection.execute(text("UPDATE ledger_days SET money = money + 1"))
                connection.execute(text("UPDATE ledger_reservations SET gpu_seconds = 0"))
            assert (await http.get(path)).json() == whole

    async def test_the_ledger_is_listed_in_pages(self, pool: Pool) -> None:
        job = await pool.submit(gpus=4, seconds=HOUR)
        attempt = await pool.start(job)
        pool.clock.forward(30)
        await pool.finish(attempt)
        async with pool.plane.http() as http:
            first = (await http.get("/v1/projects/default/ledger", params={"job": job, "limit": 2})).json()
            rest = (
                await http.get("/v1/projects/default/ledger", params={"job": job, "after": first["next"]})
            ).json()
        assert [entry["kind"] for entry in first["data"] + rest["data"]] == ["release", "meter", "reserve"]
        assert rest["data"][0]["lines"][1] == {
            "account": "reserved",
            "day": None,
            "flavor": None,
            "gpu_seconds": "14400",
            "money": "14.4",
            "price_per_gpu_hour": None,
        }


async def _paused_by_budget(pool: Pool, gpus: int, priority: int) -> str:
    """Submit a job within a budget, lower that to nothing, let the job pause, and put the budget back."""
    budget = (await _budget(pool)).budget
    assert budget is not None
    job = await pool.submit(gpus=gpus, seconds=HOUR, priority=priority)
    await pool.set_budget(gpu_hours=0)
    await pool.keeper.run_round()
    await pool.plane.lifecycle.move(job, 0, JobState.PAUSED, Reason.PAUSED_BY_USER, "paused", release=True)
    await pool.plane.services.budgets.put(ADMIN, "default", budget)
    return job


async def _leave(pool: Pool, attempt: Attempt) -> None:
    """Let an attempt leave as it was told, and its workflow see that."""
    await pool.end(attempt, OutcomeKind.CHECKPOINTED)
    await pool.plane.lifecycle.move(
        attempt.job_id, 0, JobState.PAUSED, Reason.PAUSED_BY_USER, "paused", release=True
    )


async def _budget(pool: Pool) -> BudgetView:
    return await pool.plane.services.budgets.get(ADMIN, "default")


async def _events(pool: Pool, job: str, kind: str) -> int:
    page, _ = await pool.plane.services.queries.events(ADMIN, "default", job, None, 200)
    return [event.type for event in page.data].count(kind)


async def _audited(pool: Pool, verb: str) -> int:
    page = await pool.plane.services.audit.search(ADMIN, "default", Selection(verb=verb), 200, None)
    return len(page.data)
