"""The ledger in a real PostgreSQL: what it refuses, what it does once, and what a kill leaves of it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from tests.gpu_pool import FLAVOR, PRICE, price

from steelyard.governance.ledger import accounting, repository
from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.demand import Demand, Price
from steelyard.governance.ledger.meters import Share
from steelyard.storage.database import Database

NOW = datetime(2026, 5, 31, 23, 59, 50, tzinfo=UTC)
LEASE = timedelta(seconds=60)
_INSERT = """
    INSERT INTO ledger_transactions (id, project_id, kind, job_id, reservation_id, entries)
    VALUES (:id, 'default', 'reserve', 'job_1', 'job_1', :entries)
"""
_LINE = """
    INSERT INTO ledger_postings (transaction_id, line, project_id, account, gpu_seconds, money)
    VALUES (:id, :line, :project, :account, :amount, 0)
"""


@pytest.fixture
async def ground(database: Database) -> AsyncGenerator[Database]:
    await price(database, FLAVOR, PRICE)
    yield database
    async with database.transaction() as session:
        assert await repository.imbalances(session) == []


class TestConstraints:
    async def test_a_transaction_that_does_not_sum_to_zero_is_refused_at_its_commit(
        self, ground: Database
    ) -> None:
        with pytest.raises(DBAPIError, match="does not balance"):
            await _write(ground, "odd", [("allowance", -5), ("reserved", 4)])
        assert await _count(ground) == 0

    async def test_one_without_lines_is_refused(self, ground: Database) -> None:
        with pytest.raises(DBAPIError, match="does not balance"):
            await _write(ground, "empty", [], entries=2)

    async def test_lines_without_a_transaction_are_refused(self, ground: Database) -> None:
        with pytest.raises(DBAPIError, match="does not balance"):
            await _add_lines(ground, "none", [("allowance", -1), ("reserved", 1)])

    async def test_lines_of_another_project_are_refused(self, ground: Database) -> None:
        async with ground.transaction() as session:
            await session.execute(text("INSERT INTO projects (id) VALUES ('other')"))
        with pytest.raises(DBAPIError, match="of another project"):
            await _write(ground, "mixed", [("allowance", -5), ("reserved", 5)], project="other")

    async def test_a_committed_transaction_can_not_grow_even_in_balance(self, ground: Database) -> None:
        await _write(ground, "good", [("allowance", -5), ("reserved", 5)])
        with pytest.raises(DBAPIError, match="does not balance"):
            await _add_lines(ground, "good", [("allowance", -1), ("reserved", 1)], first=2)
        assert await _reserved(ground) == 5

    @pytest.mark.parametrize("table", ["ledger_transactions", "ledger_postings"])
    @pytest.mark.parametrize(
        "verb", ["UPDATE {} SET project_id = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
    )
    async def test_nobody_changes_what_is_posted(
        self, ground: Database, superuser: Engine, table: str, verb: str
    ) -> None:
        await _write(ground, "good", [("allowance", -5), ("reserved", 5)])
        with pytest.raises(DBAPIError, match="permission denied"):
            async with ground.transaction() as session:
                await session.execute(text(verb.format(table)))
        with pytest.raises(DBAPIError, match="append-only"), superuser.connect() as connection:
            connection.execute(text(verb.format(table)))


class TestReservations:
    async def test_what_is_reserved_twice_is_reserved_once(self, ground: Database) -> None:
        for _ in range(2):
            await _reserve(ground, "job_1", Demand(4, Decimal(100)))
        assert await _reserved(ground) == 400
        for _ in range(2):
            async with ground.transaction() as session:
                await accounting.release(session, "default", "job_1", NOW)
        assert await _reserved(ground) == 0

    async def test_a_reservation_can_be_made_and_released_again(self, ground: Database) -> None:
        for order in ("0:0", "0:2", "1:3"):
            await _reserve(ground, "job_1", Demand(1, Decimal(10)), order)
            async with ground.transaction() as session:
                await accounting.release(session, "default", "job_1", NOW)
        assert await _reserved(ground) == 0
        assert await _count(ground) == 6

    async def test_children_draw_on_the_parent_and_release_nothing(self, ground: Database) -> None:
        await _reserve(ground, "job_parent", Demand(2, Decimal(100), times=3))
        async with ground.transaction() as session:
            await accounting.draw_on(session, "default", "job_trial", "job_parent")
            await accounting.draw_on(session, "default", "job_stage", "job_trial")
        for child in ("job_trial", "job_stage"):
            await _open(ground, child, f"att_{child}", gpus=2)
            await _tick(ground, f"att_{child}", NOW + timedelta(seconds=5))
            async with ground.transaction() as session:
                await accounting.release(session, "default", child, NOW)
        assert await _reserved(ground) == 600 - 2 * 10
        assert await _spent(ground, "job_trial") == Amount(Decimal(10), Decimal("0.01"))

    async def test_use_beyond_a_reservation_comes_from_the_allowance(self, ground: Database) -> None:
        await _reserve(ground, "job_1", Demand(1, Decimal(4)))
        await _open(ground, "job_1", "att_1", gpus=1)
        await _tick(ground, "att_1", NOW + timedelta(seconds=9))
        assert await _reserved(ground) == 0
        assert (await _spent(ground, "job_1")).gpu_seconds == 9


class TestMeters:
    async def test_a_span_is_split_at_midnight_and_carries_its_price(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=4)
        await _tick(ground, "att_1", NOW + timedelta(seconds=15))
        async with ground.transaction() as session:
            rows = await session.execute(
                text(
                    "SELECT day::text, gpu_seconds, money, price_per_gpu_hour FROM ledger_postings"
                    " WHERE account = 'spent' ORDER BY day"
                )
            )
            assert [tuple(row) for row in rows] == [
                ("2026-05-31", 40, Decimal("0.04"), PRICE),
                ("2026-06-01", 20, Decimal("0.02"), PRICE),
            ]
            for moment, spent in ((NOW, 40), (NOW + timedelta(seconds=15), 20)):
                standing = await repository.standing_of(session, "default", moment)
                assert standing.spent.gpu_seconds == spent

    async def test_a_price_holds_from_the_next_posting_on(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=1)
        await _tick(ground, "att_1", NOW + timedelta(seconds=2))
        await price(ground, FLAVOR, Decimal("36"))
        await _tick(ground, "att_1", NOW + timedelta(seconds=4))
        assert (await _spent(ground, "job_1")).money == Decimal("0.002") + Decimal("0.02")

    async def test_of_many_who_post_at_once_one_posts_each_moment(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=8)
        moments = [NOW + timedelta(seconds=second) for second in (3, 3, 5, 4, 5, 9, 7, 9)]

        await asyncio.gather(*(_tick(ground, "att_1", moment) for moment in moments))

        assert (await _spent(ground, "job_1")).gpu_seconds == 8 * 9

    async def test_no_use_is_charged_that_no_lease_covers(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=1)
        await _tick(ground, "att_1", NOW + timedelta(hours=7))
        assert (await _spent(ground, "job_1")).gpu_seconds == 60
        await _tick(ground, "att_1", NOW + timedelta(hours=8), renewing=True)
        await _tick(ground, "att_1", NOW + timedelta(hours=8, seconds=5))
        assert (await _spent(ground, "job_1")).gpu_seconds == 65

    async def test_a_clock_that_is_set_back_charges_nothing_twice(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=1)
        for seconds in (30, -3600, 10, 29, 31):
            await _tick(ground, "att_1", NOW + timedelta(seconds=seconds), renewing=True)
        assert (await _spent(ground, "job_1")).gpu_seconds == 31

    async def test_a_clock_that_jumps_ahead_costs_one_lease(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=1)
        for seconds in (10, 86_400, 86_410):
            await _tick(ground, "att_1", NOW + timedelta(seconds=seconds), renewing=True)
        assert (await _spent(ground, "job_1")).gpu_seconds == 10 + 60 + 10

    async def test_a_closed_meter_posts_nothing_more(self, ground: Database) -> None:
        await _open(ground, "job_1", "att_1", gpus=1)
        async with ground.transaction() as session:
            await accounting.tick(session, "att_1", NOW + timedelta(seconds=5), closing=True)
        assert await _tick(ground, "att_1", NOW + timedelta(seconds=50), renewing=True) is None
        assert (await _spent(ground, "job_1")).gpu_seconds == 5

    async def test_killed_between_meter_and_commit_the_time_is_posted_once_by_the_next(
        self, ground: Database, database_dsn: str
    ) -> None:
        await _open(ground, "job_1", "att_1", gpus=2)
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _DIES, database_dsn], check=False, timeout=60
        )
        assert process.returncode == -signal.SIGKILL
        assert (await _spent(ground, "job_1")).gpu_seconds == 0

        await _tick(ground, "att_1", NOW + timedelta(seconds=20))

        assert (await _spent(ground, "job_1")).gpu_seconds == 40


_DIES = f"""
import asyncio, os, signal, sys
from datetime import datetime
from steelyard.governance.ledger import accounting, repository
from steelyard.storage.database import Database

async def main():
    async with Database(sys.argv[1]).transaction() as session:
        await accounting.tick(session, "att_1", datetime.fromisoformat("{NOW + timedelta(seconds=10)}"))
        await session.flush()
        assert (await repository.lock_meter(session, "att_1")).ticks == 1
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def _write(
    database: Database,
    id_: str,
    lines: list[tuple[str, int]],
    *,
    entries: int | None = None,
    project: str = "default",
) -> None:
    async with database.transaction() as session:
        await session.execute(text(_INSERT), {"id": id_, "entries": entries or len(lines)})
        await _insert_lines(session, id_, lines, 0, project)


async def _add_lines(database: Database, id_: str, lines: list[tuple[str, int]], first: int = 0) -> None:
    async with database.transaction() as session:
        await _insert_lines(session, id_, lines, first, "default")


async def _insert_lines(
    session: AsyncSession, id_: str, lines: list[tuple[str, int]], first: int, project: str
) -> None:
    for number, (account, amount) in enumerate(lines, first):
        line = {"id": id_, "line": number, "project": project, "account": account, "amount": amount}
        await session.execute(text(_LINE), line)


async def _reserve(database: Database, job_id: str, demand: Demand, order: str = "0:0") -> None:
    async with database.transaction() as session:
        await accounting.reserve(session, "default", job_id, order, demand, Price(FLAVOR, PRICE), NOW)


async def _open(database: Database, job_id: str, attempt_id: str, gpus: int) -> None:
    async with database.transaction() as session:
        await accounting.open_meter(
            session, "default", job_id, attempt_id, (Share(FLAVOR, gpus),), NOW, LEASE
        )


async def _tick(
    database: Database, attempt_id: str, now: datetime, *, renewing: bool = False
) -> accounting.Tick | None:
    async with database.transaction() as session:
        return await accounting.tick(session, attempt_id, now, renewing=LEASE if renewing else None)


async def _spent(database: Database, job_id: str) -> Amount:
    async with database.transaction() as session:
        row = await session.execute(
            text(
                "SELECT coalesce(sum(gpu_seconds), 0), coalesce(sum(money), 0) FROM ledger_usage"
                " WHERE job_id = :job"
            ),
            {"job": job_id},
        )
        gpu_seconds, money = row.one()
    return Amount(gpu_seconds, money)


async def _reserved(database: Database) -> Decimal:
    async with database.transaction() as session:
        return (await repository.standing_of(session, "default", NOW)).reserved.gpu_seconds


async def _count(database: Database) -> int:
    async with database.transaction() as session:
        return await session.scalar(text("SELECT count(*) FROM ledger_transactions")) or 0
