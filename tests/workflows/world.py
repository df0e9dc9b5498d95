"""A world for workflows: the job's row in memory, with the real state machine, and attempts that obey orders.

It stands in for database and executor, so that the sequence of a run is tested alone. The activities
have the names and the messages of the real ones.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

from steelyard.jobs.recovery import AttemptEnd
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import VERBS, JobState, Reason, Verb, may_move, refuse_verb
from steelyard.workflows.messages import (
    JobPlan,
    Launched,
    LaunchRequest,
    Move,
    Registration,
    Standing,
    Stop,
)

Script = dict[str, Any]
_DESIRED = {Verb.CANCEL: "cancel", Verb.PAUSE: "pause", Verb.RESUME: "run"}


@dataclass
class World:
    """One job. `ends` says how attempts end, in order; an attempt beyond them runs until it is stopped."""

    ends: list[Script] = field(default_factory=list[Script])
    plan: JobPlan = field(default_factory=lambda: JobPlan(True, ["train"], max_retries=2))
    registration: Registration = field(default_factory=lambda: Registration(True))
    state: JobState = JobState.VALIDATING
    desired: str = "run"
    sequence: int = 0
    held: bool = False
    retries_used: int = 0
    evictions: int = 0
    states: list[JobState] = field(default_factory=list[JobState])
    launches: dict[str, str] = field(default_factory=dict[str, str])
    stops: dict[str, str] = field(default_factory=dict[str, str])
    registered: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def command(self, verb: Verb) -> None:
        """Do what the api does when a person asks."""
        assert refuse_verb(verb, self.state) is None
        target = VERBS[verb][1]
        assert target is not None
        self._set(target)
        self.desired = _DESIRED[verb]
        self.sequence += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; the test's own time limit ends it."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    @activity.defn(name="prepare_job")
    async def prepare_job(self, _job_id: str) -> JobPlan:
        return self.plan

    @activity.defn(name="move_job")
    async def move_job(self, move: Move) -> Standing:
        target = JobState(move.target)
        moved = may_move(self.state, target)
        if moved:
            self._set(target)
            self.held = self.held and not move.release
        return self._standing(moved)

    @activity.defn(name="start_attempt")
    async def start_attempt(self, request: LaunchRequest) -> Launched:
        key = f"{request.run_number}:{request.segment}"
        if key not in self.launches:
            if self.desired != "run" or not self.held:
                return Launched(None, self._standing(False))
            self.launches[key] = f"attempt-{len(self.launches) + 1}"
            self._set(JobState.STARTING)
        return Launched(self.launches[key], self._standing(True))

    @activity.defn(name="watch_attempt")
    async def watch_attempt(self, attempt_id: str) -> AttemptEnd:
        if self.state is JobState.STARTING:
            self._set(JobState.RUNNING)
        if not self.ends:
            await self.until(lambda: attempt_id in self.stops)
            self.ends.append({"kind": OutcomeKind.CHECKPOINTED, "cause": self.stops[attempt_id]})
        end = self.ends.pop(0)
        self.retries_used += int(end.get("counted", False))
        return AttemptEnd(
            attempt_id, end["kind"], end["cause"], "it ended", self.retries_used, self.evictions
        )

    @activity.defn(name="stop_attempt")
    async def stop_attempt(self, stop: Stop) -> None:
        self.stops.setdefault(stop.attempt_id, stop.reason)
        self.changed.set()

    @activity.defn(name="register_model")
    async def register_model(self, _job_id: str) -> Registration:
        self.registered += 1
        return self.registration

    @activity.defn(name="close_tracking")
    async def close_tracking(self, _job_id: str) -> None:
        return

    def _set(self, state: JobState) -> None:
        assert may_move(self.state, state), f"{self.state} -> {state}"
        if state is not self.state:
            self.states.append(state)
        self.state = state
        self.changed.set()

    def _standing(self, moved: bool) -> Standing:
        return Standing(moved, self.state, self.desired, self.sequence)


SUCCESS: Script = {"kind": OutcomeKind.SUCCEEDED, "cause": Reason.COMPLETED}
CRASH: Script = {"kind": OutcomeKind.FAILED, "cause": Reason.PROCESS_KILLED, "counted": True}
EVICTION: Script = {"kind": OutcomeKind.CHECKPOINTED, "cause": Reason.EVICTED}
NAN: Script = {"kind": OutcomeKind.FAILED, "cause": Reason.NAN_LOSS}
