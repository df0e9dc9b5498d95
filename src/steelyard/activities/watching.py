"""Following one attempt: launch or attach, heartbeat, and notice when it must be stopped."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from temporalio import activity

from steelyard.activities.edge import heartbeats
from steelyard.compute.executor import Executor, LaunchSpec, Observation, Phase, StopMode
from steelyard.jobs.endings import EndingService
from steelyard.jobs.evaluation import EvaluationService
from steelyard.jobs.launching import LaunchService
from steelyard.jobs.recovery import AttemptEnd
from steelyard.jobs.storing import StoringService
from steelyard.jobs.supervision import SupervisionService
from steelyard.jobs.tracking import TrackingService
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import Reason

_POLL_SECONDS = 2.0
_FIRST_POLL_SECONDS = 0.1
_LEAST_GRACE_SECONDS = 1.0
_GONE = "all that was known of the attempt is gone with its node; it is started again on another"
_OVER = frozenset({Phase.ENDED, Phase.LOST})
_log = structlog.get_logger()


@dataclass
class _Sight:
    """What the watcher has seen so far."""

    pid: int | None = None
    last_report: object = None
    quiet_since: float = 0.0
    stopped: bool = False


class Watcher:
    """Follows attempts. A second watcher of the same attempt attaches to the same processes.

    Args:
        stall_seconds: an attempt that lives but reports nothing for so long is stopped. Time in which this
            watcher could not read the database doesn't count.
    """

    def __init__(
        self,
        executor: Executor,
        launching: LaunchService,
        endings: EndingService,
        supervision: SupervisionService,
        tracking: TrackingService,
        evaluation: EvaluationService,
        storing: StoringService,
        stall_seconds: float,
    ) -> None:
        self._executor = executor
        self._launching = launching
        self._endings = endings
        self._supervision = supervision
        self._tracking = tracking
        self._evaluation = evaluation
        self._storing = storing
        self._stall_seconds = stall_seconds

    async def watch(self, attempt_id: str) -> AttemptEnd:
        """Follow an attempt to its end and record that.

        An end that was recorded before is returned as it is; nothing is launched again.
        """
        recorded = await self._endings.recorded_end(attempt_id)
        if recorded is not None:
            return recorded
        await self._tracking.try_open(await self._supervision.job_of(attempt_id))
        async with heartbeats():
            spec = await self._launching.launch_spec(attempt_id)
        async with self._storing.keeping_up(attempt_id) as finish:
            observation = await self._run(attempt_id, spec)
            async with heartbeats():
                await finish(observation.outcome)
        async with heartbeats():
            if observation.outcome is not None and observation.outcome.kind is OutcomeKind.SUCCEEDED:
                await self._evaluation.collect(attempt_id)
        return await self._endings.end_attempt(attempt_id, observation)

    async def _run(self, attempt_id: str, spec: LaunchSpec) -> Observation:
        """Launch an attempt or attach to it, and follow it to its end.

        One that ran already and left no trace here ran on a node that is gone: launched once more it would
        begin where it began, and not at its newest checkpoint.
        """
        if await self._supervision.has_run(attempt_id):
            seen = await self._executor.observe(attempt_id, Path(spec.run.attempt_dir))
            if seen.phase is Phase.ABSENT:
                return Observation(Phase.LOST, message=_GONE)
        await self._executor.launch(spec)
        return await self._follow(attempt_id, spec)

    async def _follow(self, attempt_id: str, spec: LaunchSpec) -> Observation:
        folder = Path(spec.run.attempt_dir)
        sight = _Sight(quiet_since=time.monotonic())
        while True:
            activity.heartbeat()
            pause_seconds = _FIRST_POLL_SECONDS if sight.pid is None else _POLL_SECONDS
            observation = await self._executor.wait(attempt_id, folder, pause_seconds)
            if observation.phase in _OVER:
                return observation
            if observation.pid is not None and observation.pid != sight.pid:
                sight.pid = observation.pid
                await self._endings.note_running(attempt_id, observation.node, observation.pid)
            await self._check(attempt_id, spec, folder, sight)

    async def _check(self, attempt_id: str, spec: LaunchSpec, folder: Path, sight: _Sight) -> None:
        """Stop what was asked to stop, ran too long, or fell silent."""
        state = await self._supervision.look_at(attempt_id)
        now = time.monotonic()
        if state.last_report_at != sight.last_report:
            sight.last_report, sight.quiet_since = state.last_report_at, now
        reason = state.stop_reason
        if reason is None and state.runtime_left_seconds <= 0:
            reason = Reason.MAX_RUNTIME_EXCEEDED
        if reason is None and now - sight.quiet_since > self._stall_seconds:
            reason = Reason.STALLED
        if reason is None or sight.stopped:
            return
        sight.stopped = True
        _log.info("stopping attempt", attempt_id=attempt_id, reason=reason)
        reason = (await self._endings.request_stop(attempt_id, reason)).reason
        grace_seconds = float(spec.grace_seconds)
        if state.node_left_seconds is not None:
            grace_seconds = min(grace_seconds, max(_LEAST_GRACE_SECONDS, state.node_left_seconds))
        await self._executor.stop(attempt_id, folder, StopMode.CHECKPOINT, grace_seconds, reason)
