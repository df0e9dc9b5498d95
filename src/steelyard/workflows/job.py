"""The life of one run of a job: prepare, wait for a place, train, evaluate, register.

The workflow knows where the job is in that sequence and nothing else; what is true of the job is in the
database, and every move goes through it. A command of a person reaches the workflow as a signal and stands
in the job's row as well, so whichever comes first, the same thing happens.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from steelyard.jobs.recovery import AttemptEnd, Next, NextKind, decide_next
    from steelyard.specs.states import JobState, Reason
    from steelyard.workflows import timeouts
    from steelyard.workflows.messages import (
        Command,
        JobPlan,
        JobResult,
        JobStart,
        Launched,
        LaunchRequest,
        Move,
        Registration,
        Standing,
        Stop,
    )


@workflow.defn(name="job")
class JobWorkflow:
    """One run of one job; its id is `job/<id>` or `job/<id>/r<run>`."""

    def __init__(self) -> None:
        self._sequence = -1
        self._desired = "run"
        self._admitted = False
        self._preempted: set[str] = set()

    @workflow.run
    async def run(self, start: JobStart) -> JobResult:
        """Carry the run to its end."""
        self._start = start
        self._segment = start.segment
        self._admitted = self._admitted or start.admitted
        self._obey(start.sequence, start.desired)
        try:
            return await self._carry_out()
        except ActivityError as error:
            return await self._end(JobState.FAILED, Reason.PLATFORM_ERROR, _sentence(error))

    async def _carry_out(self) -> JobResult:
        self._plan = await workflow.execute_activity(
            "prepare_job",
            self._start.job_id,
            result_type=JobPlan,
            start_to_close_timeout=timeouts.PREPARE,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.PREPARE_TRIES,
        )
        if not self._plan.ready:
            return await self._end(JobState.FAILED, self._plan.reason, self._plan.message)
        for stage in self._plan.stages:
            failure = await self._run_stage(stage)
            if failure is not None:
                return await self._end(JobState.FAILED, failure.reason, failure.message)
            if self._desired == "cancel":
                return await self._end(JobState.CANCELLED, Reason.CANCELLED_BY_USER, "cancelled")
        return await self._finish()

    @workflow.signal
    def command(self, command: Command) -> None:
        """Take what people want now."""
        self._obey(command.sequence, command.desired)

    @workflow.signal
    def admitted(self) -> None:
        """The scheduler has granted a place."""
        self._admitted = True

    @workflow.signal
    def preempt(self, attempt_id: str) -> None:
        """The scheduler wants the place of this attempt."""
        self._preempted.add(attempt_id)

    async def _run_stage(self, stage: str) -> Next | None:
        """Run a stage to its end over as many attempts as it takes. Returns the failure, if it is one.

        Returns None as well where the job is to be cancelled.
        """
        while True:
            if self._desired == "cancel":
                return None
            if self._desired == "pause":
                await self._pause()
                continue
            if not self._admitted:
                await self._queue(None, "waiting for a place")
                continue
            launched = await self._launch(stage)
            if launched.attempt_id is None:
                self._admitted = False
                continue
            step = decide_next(await self._follow(launched.attempt_id), self._plan.max_retries)
            if step.kind is NextKind.STAGE_DONE:
                return None
            if step.kind is NextKind.FAIL:
                return step
            await self._recover(step)
            self._continue_as_new_if_long()

    async def _pause(self) -> None:
        self._admitted = False
        await self._move(JobState.PAUSED, Reason.PAUSED_BY_USER, "paused; its slot is free", release=True)
        await workflow.wait_condition(lambda: self._desired != "pause")

    async def _queue(self, reason: str | None, message: str) -> None:
        """Give back what the job holds and wait for a place, or for a command."""
        self._admitted = False
        standing = await self._move(JobState.QUEUED, reason, message, release=True)
        if standing.moved:
            await workflow.wait_condition(lambda: self._admitted or self._desired != "run")

    async def _launch(self, stage: str) -> Launched:
        self._segment += 1
        launched = await workflow.execute_activity(
            "start_attempt",
            LaunchRequest(self._start.job_id, self._start.run_number, self._segment, stage),
            result_type=Launched,
            start_to_close_timeout=timeouts.PREPARE,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )
        self._obey(launched.standing.sequence, launched.standing.desired)
        return launched

    async def _follow(self, attempt_id: str) -> AttemptEnd:
        """Watch an attempt to its end, and pass on that it is to stop when people or the scheduler say so."""
        watch = workflow.start_activity(
            "watch_attempt",
            attempt_id,
            result_type=AttemptEnd,
            start_to_close_timeout=timeouts.WATCH,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.RE_ATTACH,
            priority=Priority(priority_key=1),
        )
        await workflow.wait_condition(lambda: watch.done() or self._stop_reason(attempt_id) is not None)
        if not watch.done():
            await workflow.execute_activity(
                "stop_attempt",
                Stop(attempt_id, self._stop_reason(attempt_id) or "", self._plan.grace_seconds),
                start_to_close_timeout=timeouts.SHORT,
                retry_policy=timeouts.UNTIL_IT_WORKS,
                priority=Priority(priority_key=1),
            )
        return await watch

    def _stop_reason(self, attempt_id: str) -> str | None:
        if self._desired == "cancel":
            return Reason.CANCELLED_BY_USER
        if self._desired == "pause":
            return Reason.PAUSED_BY_USER
        if attempt_id in self._preempted:
            return Reason.PREEMPTED
        return None

    async def _recover(self, step: Next) -> None:
        """Get ready for another launch: on the same place, or back through the queue."""
        if step.kind is NextKind.REQUEUE:
            if self._desired == "run":
                await self._queue(step.reason, step.message)
            return
        await self._move(JobState.RECOVERING, step.reason, step.message)
        if step.delay_seconds > 0:
            await self._sleep(step.delay_seconds)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond a command."""
        try:
            await workflow.wait_condition(lambda: self._desired != "run", timeout=timedelta(seconds=seconds))
        except TimeoutError:
            return

    async def _finish(self) -> JobResult:
        """Register what there is to register, and end; a cancel that comes in time wins."""
        if self._plan.registers:
            registration = await workflow.execute_activity(
                "register_model",
                self._start.job_id,
                result_type=Registration,
                start_to_close_timeout=timeouts.REGISTER,
                heartbeat_timeout=timeouts.HEARTBEAT,
                retry_policy=timeouts.UNTIL_IT_WORKS,
            )
            if not registration.accepted:
                return await self._end(JobState.FAILED, registration.reason, registration.message)
        return await self._end(JobState.SUCCEEDED, Reason.COMPLETED, "done")

    async def _end(self, state: JobState, reason: str | None, message: str) -> JobResult:
        """Move to a terminal state. Where a cancel was accepted just before, that is the end."""
        standing = await self._move(state, reason, message, release=True)
        if not standing.moved and standing.state is JobState.CANCELLING:
            state = JobState.CANCELLED
            await self._move(state, Reason.CANCELLED_BY_USER, "cancelled", release=True)
        await workflow.execute_activity(
            "close_tracking",
            self._start.job_id,
            start_to_close_timeout=timeouts.REGISTER,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )
        await workflow.wait_condition(workflow.all_handlers_finished)
        return JobResult(self._start.job_id, state)

    async def _move(
        self, target: JobState, reason: str | None, message: str, *, release: bool = False
    ) -> Standing:
        standing = await workflow.execute_activity(
            "move_job",
            Move(self._start.job_id, self._start.run_number, target, reason, message, release),
            result_type=Standing,
            start_to_close_timeout=timeouts.SHORT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
            priority=Priority(priority_key=1),
        )
        self._obey(standing.sequence, standing.desired)
        return standing

    def _obey(self, sequence: int, desired: str) -> None:
        """Take a wish unless a later one is known: signals may come twice and out of order."""
        if sequence >= self._sequence:
            self._sequence = sequence
            self._desired = desired

    def _continue_as_new_if_long(self) -> None:
        if not workflow.info().is_continue_as_new_suggested():
            return
        workflow.continue_as_new(
            JobStart(
                job_id=self._start.job_id,
                run_number=self._start.run_number,
                segment=self._segment,
                admitted=self._admitted,
                sequence=self._sequence,
                desired=self._desired,
            )
        )


def _sentence(error: ActivityError) -> str:
    cause = error.cause or error
    return f"{cause}; 'steelyard retry' starts again from the newest checkpoint"
