"""The life of one run of a family: prepare, then look at it each time that something may have changed.

What is true of the family and its children is in the database, and a look carries out whatever is due. So
this knows only when to look: at a poke, which comes with a child that has moved, a metric, or a command; and
now and then without one.
"""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from steelyard.specs.states import JobState, Reason
    from steelyard.workflows import timeouts
    from steelyard.workflows.messages import FamilyPlan, FamilyStanding, FamilyStart, GiveUp, JobResult

_LONGEST_WAIT = timedelta(seconds=60)
"""Even without a word, it looks so often."""
_LONGEST_PAUSE = timedelta(hours=1)
"""As `_LONGEST_WAIT`, while nothing is at work."""


@workflow.defn(name="family")
class FamilyWorkflow:
    """One run of one search or pipeline; its id is `job/<id>` or `job/<id>/r<run>`."""

    def __init__(self) -> None:
        self._poked = False

    @workflow.run
    async def run(self, start: FamilyStart) -> JobResult:
        """Carry the run to its end."""
        self._start = start
        if not start.prepared:
            await self._prepare()
        while True:
            self._poked = False
            standing = await self._advance()
            if standing.over:
                return await self._close(standing)
            if standing.registers:
                await self._register()
                continue
            await self._wait(_LONGEST_PAUSE if standing.state is JobState.PAUSED else _LONGEST_WAIT)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(FamilyStart(start.job_id, start.run_number, prepared=True))

    @workflow.signal
    def poke(self) -> None:
        """Something has changed: look again."""
        self._poked = True

    async def _prepare(self) -> None:
        """Make ready once what every child needs. Where that can't be, the run ends with the reason."""
        try:
            plan: FamilyPlan = await workflow.execute_activity(
                "prepare_family",
                self._start.job_id,
                result_type=FamilyPlan,
                start_to_close_timeout=timeouts.PREPARE,
                heartbeat_timeout=timeouts.HEARTBEAT,
                retry_policy=timeouts.PREPARE_TRIES,
            )
        except ActivityError as error:
            plan = FamilyPlan(
                False, Reason.PLATFORM_ERROR, f"{error.cause or error}; 'steelyard retry' tries again"
            )
        if not plan.ready:
            await self._give_up(plan.reason or Reason.PLATFORM_ERROR, plan.message)

    async def _advance(self) -> FamilyStanding:
        return await self._do("advance_family", [self._start.job_id, self._start.run_number], FamilyStanding)

    async def _give_up(self, reason: str, message: str) -> None:
        await self._do(
            "give_up_family", [GiveUp(self._start.job_id, self._start.run_number, reason, message)]
        )

    async def _register(self) -> None:
        await workflow.execute_activity(
            "register_family",
            args=[self._start.job_id, self._start.run_number],
            start_to_close_timeout=timeouts.REGISTER,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )

    async def _wait(self, longest: timedelta) -> None:
        try:
            await workflow.wait_condition(lambda: self._poked, timeout=longest)
        except TimeoutError:
            return

    async def _close(self, standing: FamilyStanding) -> JobResult:
        await workflow.execute_activity(
            "close_tracking",
            self._start.job_id,
            start_to_close_timeout=timeouts.REGISTER,
            heartbeat_timeout=timeouts.HEARTBEAT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )
        return JobResult(self._start.job_id, standing.state)

    async def _do(self, activity: str, arguments: list[Any], result_type: type | None = None) -> Any:
        return await workflow.execute_activity(
            activity,
            args=arguments,
            result_type=result_type,
            start_to_close_timeout=timeouts.SHORT,
            retry_policy=timeouts.UNTIL_IT_WORKS,
        )
