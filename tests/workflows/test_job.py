"""The sequence of a run, against a real Temporal server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from tests.workflows.replays import replay, sandbox
from tests.workflows.world import CRASH, EVICTION, NAN, SUCCESS, World

from steelyard.kit.ids import new_id
from steelyard.specs.states import JobState, Reason, Verb
from steelyard.workflows.job import JobWorkflow
from steelyard.workflows.messages import Command, JobPlan, JobResult, JobStart, Registration

pytestmark = pytest.mark.timeout(60)

HISTORIES = Path(__file__).parent / "histories"
Handle = WorkflowHandle[JobWorkflow, JobResult]


class Run:
    """A workflow at work in a world."""

    def __init__(self, world: World, handle: Handle) -> None:
        self.world = world
        self.handle = handle

    async def admit(self) -> None:
        """Grant a place when the job is queued."""
        await self.world.until(lambda: self.world.state is JobState.QUEUED)
        self.world.held = True
        await self.handle.signal(JobWorkflow.admitted)

    async def ask(self, verb: Verb) -> None:
        """Command the job, as the api and the dispatcher do together."""
        self.world.command(verb)
        await self.handle.signal(JobWorkflow.command, Command(self.world.sequence, self.world.desired))

    async def result(self) -> JobState:
        return JobState((await self.handle.result()).state)


@asynccontextmanager
async def running(client: Client, world: World) -> AsyncGenerator[Run]:
    """Start a run in a world of its own."""
    queue = new_id("queue")
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[JobWorkflow],
        activities=[
            world.prepare_job,
            world.move_job,
            world.start_attempt,
            world.watch_attempt,
            world.stop_attempt,
            world.register_model,
            world.close_tracking,
        ],
        workflow_runner=sandbox(),
    )
    async with worker:
        handle = await client.start_workflow(
            JobWorkflow.run, JobStart("job_1", 0), id=new_id("job"), task_queue=queue
        )
        yield Run(world, handle)


class TestStages:
    async def test_runs_its_stages_and_registers(self, temporal: Client) -> None:
        world = World(ends=[SUCCESS, SUCCESS], plan=JobPlan(True, ["train", "evaluate"], registers=True))
        async with running(temporal, world) as run:
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED
        assert world.registered == 1
        assert len(world.launches) == 2
        assert not world.held

    async def test_preparation_that_finds_a_fault_fails_the_job_with_its_reason(
        self, temporal: Client
    ) -> None:
        world = World(plan=JobPlan(False, [], reason=Reason.MODEL_NOT_FOUND, message="no such model"))
        async with running(temporal, world) as run:
            assert await run.result() is JobState.FAILED
        assert not world.launches

    async def test_a_missed_gate_fails_the_job(self, temporal: Client) -> None:
        world = World(
            ends=[SUCCESS],
            plan=JobPlan(True, ["train"], registers=True),
            registration=Registration(False, Reason.GATE_FAILED, "too bad"),
        )
        async with running(temporal, world) as run:
            await run.admit()
            assert await run.result() is JobState.FAILED


class TestRecovery:
    async def test_a_crash_is_relaunched_on_the_same_place(self, temporal: Client) -> None:
        world = World(ends=[CRASH, SUCCESS])
        async with running(temporal, world) as run:
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED
        assert JobState.RECOVERING in world.states
        assert world.states.count(JobState.QUEUED) == 1

    async def test_retries_are_bounded(self, temporal: Client) -> None:
        world = World(ends=[CRASH, CRASH, CRASH], plan=JobPlan(True, ["train"], max_retries=2))
        async with running(temporal, world) as run:
            await run.admit()
            assert await run.result() is JobState.FAILED
        assert len(world.launches) == 3

    async def test_an_eviction_goes_back_through_the_queue(self, temporal: Client) -> None:
        world = World(ends=[EVICTION, SUCCESS], plan=JobPlan(True, ["train"], max_retries=0))
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.states.count(JobState.QUEUED) == 2)
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED

    async def test_a_nan_loss_is_never_retried(self, temporal: Client) -> None:
        world = World(ends=[NAN])
        async with running(temporal, world) as run:
            await run.admit()
            assert await run.result() is JobState.FAILED
        assert len(world.launches) == 1


class TestCommands:
    async def test_pause_stops_the_attempt_and_frees_the_slot_and_resume_goes_on(
        self, temporal: Client
    ) -> None:
        world = World()
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            await run.ask(Verb.PAUSE)
            await world.until(lambda: world.state is JobState.PAUSED)
            assert not world.held
            assert world.stops == {"attempt-1": Reason.PAUSED_BY_USER}
            world.ends.append(SUCCESS)
            await run.ask(Verb.RESUME)
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED

    async def test_cancel_while_queued(self, temporal: Client) -> None:
        world = World()
        async with running(temporal, world) as run:
            await world.until(lambda: world.state is JobState.QUEUED)
            await run.ask(Verb.CANCEL)
            assert await run.result() is JobState.CANCELLED
        assert not world.launches

    async def test_cancel_while_running(self, temporal: Client) -> None:
        world = World()
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            await run.ask(Verb.CANCEL)
            assert await run.result() is JobState.CANCELLED
        assert world.stops == {"attempt-1": Reason.CANCELLED_BY_USER}

    async def test_cancel_while_paused(self, temporal: Client) -> None:
        world = World()
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            await run.ask(Verb.PAUSE)
            await world.until(lambda: world.state is JobState.PAUSED)
            await run.ask(Verb.CANCEL)
            assert await run.result() is JobState.CANCELLED

    async def test_pause_that_comes_as_training_finishes_lets_it_succeed(self, temporal: Client) -> None:
        world = World()
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            world.command(Verb.PAUSE)
            world.ends.append(SUCCESS)
            world.stops["attempt-1"] = Reason.PAUSED_BY_USER
            world.changed.set()
            await run.handle.signal(JobWorkflow.command, Command(world.sequence, world.desired))
            await world.until(lambda: world.state in (JobState.PAUSED, JobState.SUCCEEDED))
            if world.state is JobState.PAUSED:
                await run.ask(Verb.RESUME)
                await run.admit()
            assert await run.result() is JobState.SUCCEEDED

    async def test_a_command_that_only_the_row_knows_is_obeyed(self, temporal: Client) -> None:
        world = World(ends=[EVICTION])
        async with running(temporal, world) as run:
            await world.until(lambda: world.state is JobState.QUEUED)
            world.command(Verb.PAUSE)
            await run.handle.signal(JobWorkflow.admitted)
            await world.until(lambda: world.state is JobState.PAUSED)
            await run.ask(Verb.CANCEL)
            assert await run.result() is JobState.CANCELLED

    async def test_an_old_command_that_comes_late_changes_nothing(self, temporal: Client) -> None:
        world = World()
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            await run.ask(Verb.PAUSE)
            await world.until(lambda: world.state is JobState.PAUSED)
            world.ends.append(SUCCESS)
            await run.ask(Verb.RESUME)
            await run.handle.signal(JobWorkflow.command, Command(1, "pause"))
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED

    async def test_preemption_requeues_and_counts_no_retry(self, temporal: Client) -> None:
        world = World(plan=JobPlan(True, ["train"], max_retries=0))
        async with running(temporal, world) as run:
            await run.admit()
            await world.until(lambda: world.state is JobState.RUNNING)
            await run.handle.signal(JobWorkflow.preempt, "attempt-1")
            await world.until(lambda: world.states.count(JobState.QUEUED) == 2)
            world.ends.append(SUCCESS)
            await run.admit()
            assert await run.result() is JobState.SUCCEEDED
        assert world.stops == {"attempt-1": Reason.PREEMPTED}


class TestReplay:
    @pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
    async def test_histories_of_earlier_versions_replay(self, path: Path) -> None:
        await replay(JobWorkflow, path)

    def test_there_are_histories_to_replay(self) -> None:
        assert len(list(HISTORIES.glob("*.json"))) >= 3
