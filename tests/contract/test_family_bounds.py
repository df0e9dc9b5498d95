"""A search keeps to its places at once through retries, pauses and deaths, and forgets no trial over it."""

import contextlib
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.test_family_kills import look_and_die
from tests.control_plane import ADMIN, LEASE_SECONDS, serve
from tests.gpu_pool import HandClock, open_pool
from tests.households import Household

from steelyard import hpo
from steelyard.jobs.families import FamilyService
from steelyard.kit.errors import InvalidTransition
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason
from steelyard.specs.views import JobView
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

_GPUS = 2


class Searches(Household):
    """A household whose families are searches as they are."""

    @property
    def families(self) -> FamilyService:
        return FamilyService(self.pool.plane.database, {"hpo": hpo.next_step}, self.pool.clock)

    async def live(self, parent: str) -> list[JobView]:
        """Return the children that are not over."""
        return [child for child in await self.children(parent) if child.state not in TERMINAL_STATES]

    async def cancel(self, parent: str, run: int) -> None:
        """Cancel a search and let all its children end."""
        await self.pool.plane.services.commands.cancel(ADMIN, "default", parent)
        await self.look(parent, run)
        for child in await self.live(parent):
            await self.settle(child.id, await self.run_of(child.id))
        assert (await self.look(parent, run)).over

    async def run_of(self, job: str) -> int:
        """Return the number of a job's present run."""
        async with self.pool.plane.database.transaction() as session:
            return (await session.get_one(JobRow, job)).run_number


@pytest.fixture
async def house(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[Searches]:
    clock = HandClock(datetime(2026, 5, 20, 12, tzinfo=UTC))
    async with serve(database, database_dsn, tmp_path, clock) as plane:
        house = Searches(await open_pool(plane, clock, LEASE_SECONDS))
        yield house
        await house.require_balance()


async def six_cancelled(house: Searches) -> tuple[str, list[str]]:
    """A search of 6 trials, 2 at once, all cancelled in the end."""
    parent = await house.submit(trials=6, side_by_side=2, gpus=_GPUS)
    await house.look(parent)
    for _ in range(2):
        for child in await house.live(parent):
            await house.pool.plane.services.commands.cancel(ADMIN, "default", child.id)
            await house.settle(child.id)
        await house.look(parent)
    await house.cancel(parent, 0)
    return parent, [child.id for child in await house.children(parent)]


async def test_a_retry_starts_again_only_so_many_as_may_be_at_once(house: Searches) -> None:
    parent, children = await six_cancelled(house)
    assert len(children) == 6
    await house.pool.plane.services.commands.retry(ADMIN, "default", parent)
    for over in range(7):
        await house.look(parent, 1)
        live = await house.live(parent)
        assert len(live) == min(2, 6 - over)
        if live:
            # Each that waits may still run an hour, so what is held for it stays held.
            assert await house.reserved() == _GPUS * 6
            await house.end(live[0].id, JobState.FAILED, Reason.GATE_FAILED, run=1)
    assert [child.id for child in await house.children(parent)] == children
    assert [await house.run_of(child) for child in children] == [1] * 6


async def test_those_that_wait_hold_their_share_through_a_pause(house: Searches) -> None:
    parent, _ = await six_cancelled(house)
    commands = house.pool.plane.services.commands
    await commands.retry(ADMIN, "default", parent)
    await house.look(parent, 1)
    first, second = await house.live(parent)
    await house.end(first.id, JobState.FAILED, Reason.NAN_LOSS, run=1)
    await commands.pause(ADMIN, "default", parent)
    await house.look(parent, 1)
    await house.settle(second.id, 1)
    assert (await house.look(parent, 1)).state is JobState.PAUSED
    assert await house.reserved() == 0
    await commands.resume(ADMIN, "default", parent)
    # One is paused and goes on, four wait for their turn; what failed in this run is over.
    assert await house.reserved() == _GPUS * 5
    await house.look(parent, 1)
    assert len(await house.live(parent)) == 2


async def test_workers_that_die_start_again_no_more_and_no_fewer(house: Searches, database_dsn: str) -> None:
    parent, children = await six_cancelled(house)
    await house.pool.plane.services.commands.retry(ADMIN, "default", parent)
    assert await look_and_die(database_dsn, parent, run=1, stride=5) > 3
    assert len(await house.live(parent)) == 2
    assert [await house.run_of(child) for child in children] == [1, 1, 0, 0, 0, 0]


async def test_nobody_starts_a_trial_again_beyond_the_bound(house: Searches) -> None:
    parent, children = await six_cancelled(house)
    commands = house.pool.plane.services.commands
    await commands.retry(ADMIN, "default", parent)
    await commands.retry(ADMIN, "default", children[5])
    await house.look(parent, 1)
    assert [child.id for child in await house.live(parent)] == [children[0], children[5]]
    with pytest.raises(InvalidTransition, match="no more may be at once"):
        await commands.retry(ADMIN, "default", children[1])
    await house.end(children[5], JobState.FAILED, Reason.PLATFORM_ERROR, run=1)
    await house.look(parent, 1)
    # Whoever was started again by hand has had its turn in this run.
    assert [child.id for child in await house.live(parent)] == children[:2]


@pytest.mark.parametrize("seed", range(3))
async def test_no_interleaving_of_ends_retries_and_pauses_passes_the_bound(
    house: Searches, seed: int
) -> None:
    draw = random.Random(seed)
    commands = house.pool.plane.services.commands
    parent = await house.submit(trials=7, side_by_side=3, gpus=_GPUS)
    for _ in range(60):
        view = await house.pool.job(parent)
        live = await house.live(parent)
        if view.state in TERMINAL_STATES:
            if view.state is JobState.SUCCEEDED:
                break
            await commands.retry(ADMIN, "default", parent)
        elif view.state is JobState.PAUSED:
            await commands.resume(ADMIN, "default", parent)
        elif draw.random() < 0.1:
            verb = draw.choice([commands.pause, commands.cancel])
            if view.state not in (JobState.PAUSING, JobState.CANCELLING):
                await verb(ADMIN, "default", parent)
        elif live and draw.random() < 0.6:
            child = draw.choice(live)
            run = await house.run_of(child.id)
            if child.state in (JobState.PAUSING, JobState.CANCELLING):
                await house.settle(child.id, run)
            elif child.state is not JobState.PAUSED:
                reason = draw.choice([Reason.PLATFORM_ERROR, Reason.GATE_FAILED])
                await house.end(child.id, JobState.FAILED, reason, run)
        elif over := [each for each in await house.children(parent) if each.state in TERMINAL_STATES]:
            with contextlib.suppress(InvalidTransition):
                await commands.retry(ADMIN, "default", draw.choice(over).id)
        assert len(await house.live(parent)) <= 3
        await house.look(parent, await house.run_of(parent))
        assert len(await house.live(parent)) <= 3
        assert len(await house.children(parent)) <= 7
