"""The activities of a job's workflow. Each may be tried any number of times."""

from pathlib import Path

from temporalio import activity

from steelyard.activities.edge import heartbeats
from steelyard.activities.watching import Watcher
from steelyard.compute.executor import Executor, StopMode
from steelyard.jobs.endings import EndingService
from steelyard.jobs.lifecycle import LifecycleService, Orders
from steelyard.jobs.planning import PlanningService
from steelyard.jobs.preparation import PreparationService
from steelyard.jobs.recovery import AttemptEnd
from steelyard.jobs.registration import RegistrationService
from steelyard.jobs.tracking import TrackingService
from steelyard.specs.states import JobState
from steelyard.workflows.messages import (
    JobPlan,
    Launched,
    LaunchRequest,
    Move,
    Registration,
    Standing,
    Stop,
)


class JobActivities:
    """Bound to the services of one worker process."""

    def __init__(
        self,
        planning: PlanningService,
        preparation: PreparationService,
        lifecycle: LifecycleService,
        endings: EndingService,
        registration: RegistrationService,
        tracking: TrackingService,
        executor: Executor,
        watcher: Watcher,
    ) -> None:
        self._planning = planning
        self._preparation = preparation
        self._lifecycle = lifecycle
        self._endings = endings
        self._registration = registration
        self._tracking = tracking
        self._executor = executor
        self._watcher = watcher

    @activity.defn(name="prepare_job")
    async def prepare_job(self, job_id: str) -> JobPlan:
        """Make data and base model ready, and say which stages are to do."""
        async with heartbeats():
            prepared = await self._preparation.prepare(job_id)
        if not prepared.ready:
            return JobPlan(False, [], reason=prepared.reason, message=prepared.message)
        outline = await self._planning.outline(job_id)
        return JobPlan(
            ready=True,
            stages=outline.stages,
            max_retries=outline.max_retries,
            grace_seconds=outline.grace_seconds,
            registers=outline.registers,
        )

    @activity.defn(name="move_job")
    async def move_job(self, move: Move) -> Standing:
        """Change the job's state, if the state machine and people's commands allow it."""
        orders = await self._lifecycle.move(
            move.job_id,
            move.run_number,
            JobState(move.target),
            move.reason,
            move.message,
            release=move.release,
        )
        return _standing(orders)

    @activity.defn(name="start_attempt")
    async def start_attempt(self, request: LaunchRequest) -> Launched:
        """Make the attempt of a launch, on a node that has all that it reads."""
        async with heartbeats():
            await self._preparation.restore(request.job_id)
            launch = await self._lifecycle.start_attempt(
                request.job_id, request.run_number, f"{request.run_number}:{request.segment}", request.stage
            )
        return Launched(launch.attempt_id, _standing(launch.orders))

    @activity.defn(name="watch_attempt")
    async def watch_attempt(self, attempt_id: str) -> AttemptEnd:
        """Launch the attempt, or attach to it, and follow it to its end."""
        return await self._watcher.watch(attempt_id)

    @activity.defn(name="stop_attempt")
    async def stop_attempt(self, stop: Stop) -> None:
        """Ask an attempt to save and leave."""
        order = await self._endings.request_stop(stop.attempt_id, stop.reason)
        await self._executor.stop(
            stop.attempt_id, Path(order.folder), StopMode.CHECKPOINT, stop.grace_seconds, order.reason
        )

    @activity.defn(name="register_model")
    async def register_model(self, job_id: str) -> Registration:
        """Judge the gates and take the model into the registry."""
        async with heartbeats():
            registered = await self._registration.register(job_id)
        return Registration(registered.accepted, registered.reason, registered.message)

    @activity.defn(name="close_tracking")
    async def close_tracking(self, job_id: str) -> None:
        """Let MLflow catch up with what was measured, and close the run there."""
        async with heartbeats():
            await self._tracking.close(job_id)


def _standing(orders: Orders) -> Standing:
    return Standing(orders.moved, orders.state, orders.desired, orders.sequence)
