"""The sequence of a family's run, against a real Temporal server."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from tests.workflows.replays import replay, sandbox

from steelyard.jobs.pokes import FAMILY_TOPIC
from steelyard.kit.ids import new_id
from steelyard.server.dispatcher import Dispatcher
from steelyard.specs.states import JobState, Reason
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener
from steelyard.storage.outbox import CHANNEL, enqueue
from steelyard.workflows.family import FamilyWorkflow
from steelyard.workflows.messages import FamilyPlan, FamilyStanding, FamilyStart, GiveUp, JobResult

pytestmark = pytest.mark.timeout(60)

HISTORIES = Path(__file__).parent / "histories" / "family"
Handle = WorkflowHandle[FamilyWorkflow, JobResult]
AT_WORK = FamilyStanding(JobState.RUNNING, over=False)
REGISTERS = FamilyStanding(JobState.RUNNING, over=False, registers=True)
DONE = FamilyStanding(JobState.SUCCEEDED, over=True)
FAILED = FamilyStanding(JobState.FAILED, over=True)


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class FamilyWorld:
    """One family: what each look finds, in order; the last goes on for ever."""

    looks: list[FamilyStanding] = field(default_factory=lambda: [AT_WORK])
    plan: FamilyPlan = field(default_factory=lambda: FamilyPlan(True))
    faults: int = 0
    """So many looks fail first, as if the worker or the database had died."""
    looked: int = 0
    prepared: int = 0
    registered: int = 0
    closed: int = 0
    given_up: list[GiveUp] = field(default_factory=list[GiveUp])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=_set)
    """A look ends when this is set."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; the test's own time limit ends it."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    @activity.defn(name="prepare_family")
    async def prepare_family(self, _job_id: str) -> FamilyPlan:
        self.prepared += 1
        return self.plan

    @activity.defn(name="advance_family")
    async def advance_family(self, _job_id: str, _run_number: int) -> FamilyStanding:
        if self.faults:
            self.faults -= 1
            raise ConnectionError("the worker was killed here")
        if self.given_up:
            return FAILED
        standing = self.looks[min(self.looked, len(self.looks) - 1)]
        self.looked += 1
        self.changed.set()
        await self.goes_on.wait()
        return standing

    @activity.defn(name="give_up_family")
    async def give_up_family(self, wish: GiveUp) -> None:
        self.given_up.append(wish)

    @activity.defn(name="register_family")
    async def register_family(self, _job_id: str, _run_number: int) -> None:
        self.registered += 1

    @activity.defn(name="close_tracking")
    async def close_tracking(self, _job_id: str) -> None:
        self.closed += 1


@asynccontextmanager
async def at_work(client: Client, world: FamilyWorld) -> AsyncGenerator[Handle]:
    """Start a family's run in a world of its own."""
    queue = new_id("queue")
    async with worker_of(client, world, queue):
        yield await client.start_workflow(
            FamilyWorkflow.run, FamilyStart("job_1", 0), id=new_id("job"), task_queue=queue
        )


def worker_of(client: Client, world: FamilyWorld, queue: str) -> Worker:
    """Return a worker of a world."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[FamilyWorkflow],
        activities=[
            world.prepare_family,
            world.advance_family,
            world.give_up_family,
            world.register_family,
            world.close_tracking,
        ],
        workflow_runner=sandbox(),
    )


class TestFamily:
    async def test_it_looks_at_each_poke_and_registers_what_is_chosen(self, temporal: Client) -> None:
        world = FamilyWorld(looks=[AT_WORK, AT_WORK, REGISTERS, DONE])
        async with at_work(temporal, world) as handle:
            for looks in (1, 2):
                await world.until(lambda looks=looks: world.looked == looks)
                await handle.signal(FamilyWorkflow.poke)
            assert JobState((await handle.result()).state) is JobState.SUCCEEDED
        assert (world.prepared, world.registered, world.closed, world.looked) == (1, 1, 1, 4)

    async def test_what_cant_be_made_ready_ends_the_family_with_its_reason(self, temporal: Client) -> None:
        plan = FamilyPlan(False, Reason.MODEL_NOT_FOUND, "no such model")
        world = FamilyWorld(plan=plan)
        async with at_work(temporal, world) as handle:
            assert JobState((await handle.result()).state) is JobState.FAILED
        assert [(wish.reason, wish.message) for wish in world.given_up] == [(plan.reason, plan.message)]
        assert world.looked == 0

    async def test_looks_that_die_are_taken_again(self, temporal: Client) -> None:
        world = FamilyWorld(looks=[DONE], faults=3)
        async with at_work(temporal, world) as handle:
            assert JobState((await handle.result()).state) is JobState.SUCCEEDED

    async def test_a_poke_during_a_look_is_not_lost(self, temporal: Client) -> None:
        world = FamilyWorld(looks=[AT_WORK, DONE], goes_on=asyncio.Event())
        async with at_work(temporal, world) as handle:
            await world.until(lambda: world.looked == 1)
            await handle.signal(FamilyWorkflow.poke)
            world.goes_on.set()
            assert JobState((await handle.result()).state) is JobState.SUCCEEDED

    async def test_a_worker_that_is_gone_loses_no_poke_and_prepares_once(self, temporal: Client) -> None:
        queue, world = new_id("queue"), FamilyWorld()
        async with worker_of(temporal, world, queue):
            handle = await temporal.start_workflow(
                FamilyWorkflow.run, FamilyStart("job_1", 0), id=new_id("job"), task_queue=queue
            )
            await world.until(lambda: world.looked == 1)
        await handle.signal(FamilyWorkflow.poke)
        world.looks = [DONE]
        async with worker_of(temporal, world, queue):
            assert JobState((await handle.result()).state) is JobState.SUCCEEDED
        assert world.prepared == 1


class TestDispatch:
    async def test_promises_start_it_once_and_again_where_it_was_terminated(
        self, temporal: Client, database: Database, database_dsn: str
    ) -> None:
        await temporal.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace="default", search_attributes={"Phase": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD}
            )
        )
        dispatcher = Dispatcher(database, Listener(database_dsn, (CHANNEL,)), temporal)
        job = new_id("job")
        handle = temporal.get_workflow_handle(f"job/{job}/r1")
        runs: list[str | None] = []
        for terminate in (False, True, False):
            for _ in range(2):
                async with database.transaction() as session:
                    await enqueue(session, FAMILY_TOPIC, job, {"run_number": 1})
                assert await dispatcher.relay() == 1
            runs.append((await handle.describe()).run_id)
            if terminate:
                await handle.terminate("a test")
        assert runs[0] == runs[1] != runs[2]
        await handle.terminate("a test")
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT count(*) FROM outbox")) == 0


class TestReplay:
    @pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
    async def test_histories_of_earlier_versions_replay(self, path: Path) -> None:
        await replay(FamilyWorkflow, path)

    def test_there_are_histories_to_replay(self) -> None:
        assert len(list(HISTORIES.glob("*.json"))) >= 2
