"""The sequence of a promotion, against a real Temporal server."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from tests.workflows.replays import replay, sandbox

from steelyard.kit.ids import new_id
from steelyard.rollouts.requests import PROMOTION_TOPIC
from steelyard.server.dispatcher import Dispatcher
from steelyard.storage.database import Database
from steelyard.storage.notifications import Listener
from steelyard.storage.outbox import CHANNEL, enqueue
from steelyard.workflows.messages import PromotionStanding
from steelyard.workflows.promotion import PromotionWorkflow

pytestmark = pytest.mark.timeout(60)

HISTORIES = Path(__file__).parent / "histories" / "promotion"
Handle = WorkflowHandle[PromotionWorkflow, str]
WAITS = PromotionStanding("awaiting_approval", over=False)


@dataclass
class PromotionWorld:
    """One promotion: what `check` says, and what `settle` says to each call; the last goes on for ever."""

    checked: PromotionStanding = WAITS
    settled: list[PromotionStanding] = field(default_factory=lambda: [WAITS])
    checks: int = 0
    settles: int = 0
    faults: int = 0
    """So many calls fail first, as if the worker or the database had died."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; the test's own time limit ends it."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    @activity.defn(name="check_promotion")
    async def check_promotion(self, _promotion_id: str) -> PromotionStanding:
        self.checks += 1
        self._fail_first()
        return self.checked

    @activity.defn(name="settle_promotion")
    async def settle_promotion(self, _promotion_id: str) -> PromotionStanding:
        self._fail_first()
        standing = self.settled[min(self.settles, len(self.settled) - 1)]
        self.settles += 1
        self.changed.set()
        return standing

    def _fail_first(self) -> None:
        if self.faults:
            self.faults -= 1
            raise ConnectionError("the worker was killed here")


@asynccontextmanager
async def promoting(client: Client, world: PromotionWorld) -> AsyncGenerator[Handle]:
    """Start a promotion in a world of its own."""
    queue = new_id("queue")
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[PromotionWorkflow],
        activities=[world.check_promotion, world.settle_promotion],
        workflow_runner=sandbox(),
    )
    async with worker:
        yield await client.start_workflow(
            PromotionWorkflow.run, "promo_1", id=new_id("promotion"), task_queue=queue
        )


class TestPromotion:
    async def test_gates_that_fail_end_it_before_anybody_is_asked(self, temporal: Client) -> None:
        world = PromotionWorld(checked=PromotionStanding("gate_failed", over=True))
        async with promoting(temporal, world) as handle:
            assert await handle.result() == "gate_failed"
        assert world.settles == 0

    async def test_it_waits_for_approvals_and_looks_again_at_each(self, temporal: Client) -> None:
        world = PromotionWorld(settled=[WAITS, WAITS, PromotionStanding("promoted", over=True)])
        async with promoting(temporal, world) as handle:
            for settles in (1, 2):
                await world.until(lambda settles=settles: world.settles == settles)
                await handle.signal(PromotionWorkflow.nudge)
            assert await handle.result() == "promoted"
        assert (world.checks, world.settles) == (1, 3)

    async def test_it_looks_again_by_itself_when_the_time_has_come(self, temporal: Client) -> None:
        soon = datetime.now(UTC) + timedelta(milliseconds=100)
        expiring = PromotionStanding("awaiting_approval", over=False, wake_at=soon)
        world = PromotionWorld(settled=[expiring, PromotionStanding("expired", over=True)])
        async with promoting(temporal, world) as handle:
            assert await handle.result() == "expired"

    async def test_activities_that_die_are_tried_until_they_work(self, temporal: Client) -> None:
        world = PromotionWorld(settled=[PromotionStanding("promoted", over=True)], faults=2)
        async with promoting(temporal, world) as handle:
            assert await handle.result() == "promoted"

    async def test_a_worker_that_is_gone_loses_no_approval(self, temporal: Client) -> None:
        queue, world = new_id("queue"), PromotionWorld(settled=[WAITS])
        parts = {"task_queue": queue, "workflows": [PromotionWorkflow], "workflow_runner": sandbox()}
        activities = [world.check_promotion, world.settle_promotion]
        async with Worker(temporal, **parts, activities=activities):  # pyright: ignore[reportArgumentType]
            handle = await temporal.start_workflow(
                PromotionWorkflow.run, "promo_1", id=new_id("promotion"), task_queue=queue
            )
            await world.until(lambda: world.settles == 1)
        await handle.signal(PromotionWorkflow.nudge)
        world.settled = [PromotionStanding("promoted", over=True)]
        async with Worker(temporal, **parts, activities=activities):  # pyright: ignore[reportArgumentType]
            assert await handle.result() == "promoted"
        assert world.checks == 1


class TestDispatch:
    async def test_promises_start_it_once_and_again_where_it_was_terminated(
        self, temporal: Client, database: Database, database_dsn: str
    ) -> None:
        dispatcher = Dispatcher(database, Listener(database_dsn, (CHANNEL,)), temporal)
        promotion = new_id("promo")
        handle = temporal.get_workflow_handle(f"promotion/{promotion}")
        runs: list[str | None] = []
        for terminate in (False, True, False):
            for _ in range(2):
                async with database.transaction() as session:
                    await enqueue(session, PROMOTION_TOPIC, promotion, {})
                await dispatcher.relay()
            runs.append((await handle.describe()).run_id)
            if terminate:
                await handle.terminate("a test")
        assert runs[0] == runs[1] != runs[2]
        await handle.terminate("a test")


class TestReplay:
    @pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
    async def test_histories_of_earlier_versions_replay(self, path: Path) -> None:
        await replay(PromotionWorkflow, path)

    def test_there_are_histories_to_replay(self) -> None:
        assert len(list(HISTORIES.glob("*.json"))) >= 2
