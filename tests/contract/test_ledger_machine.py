"""Any sequence of acts on the ledger, drawn at random, in a real PostgreSQL: it balances after each one."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.gpu_pool import FLAVOR, PRICE, price

from steelyard.governance.ledger import accounting, repository
from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.demand import Demand, Price
from steelyard.governance.ledger.meters import Share
from steelyard.governance.ledger.standing import Standing
from steelyard.kit.errors import BudgetExceeded
from steelyard.storage.database import Database

LEASE = timedelta(seconds=60)
Answer = TypeVar("Answer")
_SETTINGS = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
_numbers = itertools.count(1)


@dataclass
class Job:
    """A job as the machine knows it. `attempt` is the one that runs."""

    id: str
    demand: Demand
    orders: int = 0
    holds: bool = True
    attempt: str | None = None
    parent: "Job | None" = None
    """The job on whose reservation this one draws."""


class _Killed(Exception):
    """Stands for a process that dies before its commit."""


def test_it_balances_whatever_comes(database_dsn: str) -> None:
    with asyncio.Runner() as runner:
        database = Database(database_dsn, name="machine")
        try:
            runner.run(price(database, FLAVOR, PRICE))
            run_state_machine_as_test(partial(Ledger, runner, database), settings=_SETTINGS)  # pyright: ignore[reportArgumentType]
        finally:
            runner.run(database.close())


class Ledger(RuleBasedStateMachine):
    """One project; every run of the machine has its own."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self._runner = runner
        self._database = database
        self._project = f"machine-{next(_numbers)}"
        self._now = datetime(2026, 5, 31, 20, tzinfo=UTC)
        self._jobs: list[Job] = []

    @initialize(hours=st.sampled_from([40, 8, 1]))
    def begin(self, hours: int) -> None:
        """Make the project and its budget."""

        async def make(session: AsyncSession) -> None:
            await session.execute(text("INSERT INTO projects (id) VALUES (:id)"), {"id": self._project})

        self._do(make)
        self.set_limit(hours)

    @rule(hours=st.sampled_from([40, 8, 1, 0]))
    def set_limit(self, hours: int) -> None:
        """Set the budget of GPU-hours."""

        async def act(session: AsyncSession) -> None:
            await session.execute(
                text(
                    "INSERT INTO budgets (project_id, period, gpu_hours, updated_by, updated_at)"
                    " VALUES (:id, 'month', :hours, 'test', now())"
                    " ON CONFLICT (project_id) DO UPDATE SET gpu_hours = excluded.gpu_hours"
                ),
                {"id": self._project, "hours": hours},
            )

        self._do(act)

    @rule(
        gpus=st.sampled_from([8, 1, 4, 0]),
        seconds=st.sampled_from([600, 60, 1800, 20_000]),
        times=st.sampled_from([1, 1, 3]),
    )
    def submit(self, gpus: int, seconds: int, times: int) -> None:
        """Submit a job: it is taken if and only if it fits."""
        job = Job(f"job_{next(_numbers)}", Demand(gpus, Decimal(seconds), times))
        if self._reserve(job):
            self._jobs.append(job)

    @precondition(lambda self: self._families())
    @rule(data=st.data(), killed=st.booleans())
    def make_child(self, data: st.DataObject, killed: bool) -> None:
        """Let a search make a trial, which draws on what it holds; perhaps the worker dies once before."""
        parent = data.draw(st.sampled_from(self._families()))
        demand = Demand(parent.demand.gpus, parent.demand.seconds)
        child = Job(f"job_{next(_numbers)}", demand, holds=False, parent=parent)

        async def act(session: AsyncSession) -> None:
            await accounting.draw_on(session, self._project, child.id, parent.id)
            if killed:
                raise _Killed

        self._do(act)
        if not killed:
            self._jobs.append(child)

    @precondition(lambda self: self._ended_families())
    @rule(data=st.data())
    def end_family(self, data: st.DataObject) -> None:
        """End a search whose trials are all at rest, and with it what it holds."""
        parent = data.draw(st.sampled_from(self._ended_families()))
        self._do(lambda session: accounting.release(session, self._project, parent.id, self._now))
        self._jobs = [job for job in self._jobs if job is not parent and job.parent is not parent]

    @precondition(lambda self: self._resting())
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Reserve again for a paused job."""
        job = data.draw(st.sampled_from(self._resting()))
        job.orders += 1
        job.holds = self._reserve(job)

    @precondition(lambda self: self._idle())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """Start an attempt of a job that holds its reservation."""
        job = data.draw(st.sampled_from(self._idle()))
        job.attempt = f"att_{next(_numbers)}"
        shares = (Share(FLAVOR, job.demand.gpus),)
        self._do(
            lambda session: accounting.open_meter(
                session, self._project, job.id, str(job.attempt), shares, self._now, LEASE
            )
        )

    @rule(seconds=st.sampled_from([0.25, 17, 59, 61, 300, -300, 3600, 86_400]))
    def let_time_pass(self, seconds: float) -> None:
        """Move the clock, mostly a little, sometimes far, sometimes back."""
        self._now += timedelta(seconds=seconds)

    @precondition(lambda self: self._running())
    @rule(data=st.data(), renewing=st.booleans(), killed=st.booleans())
    def tick(self, data: st.DataObject, renewing: bool, killed: bool) -> None:
        """Post what an attempt has used; perhaps the process dies before its commit."""
        job = data.draw(st.sampled_from(self._running()))
        before = self._standing()

        async def act(session: AsyncSession) -> None:
            lease = LEASE if renewing else None
            await accounting.tick(session, str(job.attempt), self._now, renewing=lease)
            if killed:
                raise _Killed

        self._do(act)
        used = self._standing().spent.gpu_seconds - before.spent.gpu_seconds
        assert used <= job.demand.gpus * Decimal(LEASE.total_seconds())
        assert not killed or used == 0

    @precondition(lambda self: self._running())
    @rule(data=st.data(), then=st.sampled_from(["requeue", "pause", "end", "end twice"]))
    def leave(self, data: st.DataObject, then: str) -> None:
        """End an attempt, and with it perhaps the job."""
        job = data.draw(st.sampled_from(self._running()))
        attempt, job.attempt = str(job.attempt), None
        self._do(lambda session: accounting.tick(session, attempt, self._now, closing=True))
        if then == "requeue":
            return
        job.holds = False
        if job.parent is not None:
            # It releases nothing: that is its parent's to do.
            self._do(lambda session: accounting.release(session, self._project, job.id, self._now))
            self._jobs.remove(job)
            return
        for _ in range(2 if then == "end twice" else 1):
            self._do(lambda session: accounting.release(session, self._project, job.id, self._now))
        if then != "pause":
            self._jobs.remove(job)

    @invariant()
    def balances(self) -> None:
        """All sums are those of the postings."""
        assert self._do(repository.imbalances) == []

    @invariant()
    def nothing_is_held_for_nobody(self) -> None:
        """Reservations are of jobs that are under way, and none is below zero."""
        if not self._jobs:
            assert self._standing().reserved.is_zero
        for job in self._jobs:
            held = self._do(lambda session, job=job: repository.find_reservation(session, job.id))
            assert held.remaining.gpu_seconds >= 0
            assert held.remaining.money >= 0
            assert job.holds or held.remaining.is_zero
            assert job.parent is None or held.remaining.is_zero

    def _reserve(self, job: Job) -> bool:
        before = self._standing()
        asked = job.demand.amount(PRICE)
        order = f"0:{job.orders}"
        limit = before.limit("gpu_hours")
        committed = before.spent.of("gpu_hours") + before.reserved.of("gpu_hours")
        fits = asked.is_zero or limit is None or committed + asked.of("gpu_hours") <= limit
        try:
            for _ in range(2):
                self._do(
                    lambda session: accounting.reserve(
                        session, self._project, job.id, order, job.demand, Price(FLAVOR, PRICE), self._now
                    )
                )
                after = self._standing()
                assert after.reserved == before.reserved + asked
        except BudgetExceeded:
            assert not fits
            assert self._standing().reserved == before.reserved
            return False
        assert fits
        return True

    def _standing(self) -> Standing:
        return self._do(lambda session: repository.standing_of(session, self._project, self._now))

    def _running(self) -> list[Job]:
        return [job for job in self._jobs if job.attempt is not None]

    def _idle(self) -> list[Job]:
        return [job for job in self._jobs if job.attempt is None and (job.parent or job).holds]

    def _resting(self) -> list[Job]:
        return [job for job in self._jobs if job.attempt is None and not job.holds and job.parent is None]

    def _families(self) -> list[Job]:
        return [job for job in self._jobs if job.parent is None and job.holds and job.demand.times > 1]

    def _ended_families(self) -> list[Job]:
        at_work = {id(job.parent) for job in self._running()}
        return [job for job in self._families() if job.attempt is None and id(job) not in at_work]

    def _do(self, act: Callable[[AsyncSession], Awaitable[Answer]]) -> Answer:
        async def run() -> Answer | None:
            try:
                async with self._database.transaction() as session:
                    return await act(session)
            except _Killed:
                return None

        return self._runner.run(run())  # type: ignore[return-value]


def test_no_amount_is_lost_in_a_split() -> None:
    whole = Amount(Decimal("86400.000001"), Decimal("0.123456789"))
    part = Amount(Decimal("1000.5"), Decimal("0.2"))
    assert part.at_most(whole) + (part - part.at_most(whole)) == part
