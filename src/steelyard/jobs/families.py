"""Families at work: each look is one transaction that carries out whatever is due.

A look reads the family and all its children anew, so it may be repeated, die anywhere, or come late. What the
children are to be is the decision of a pure function for each type; what people want goes before that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.jobs import repository
from steelyard.jobs.child_ends import tell_ends
from steelyard.jobs.children import (
    Curves,
    Kin,
    add_child,
    pause_child,
    read_kin,
    restart_child,
    resume_child,
    stop_child,
)
from steelyard.jobs.events import append_event
from steelyard.jobs.family_rules import PAUSED_WITH_FAMILY
from steelyard.jobs.holds import hold_for_budget
from steelyard.jobs.moves import make_move
from steelyard.jobs.pokes import reach_family
from steelyard.jobs.specs import stored_spec
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.families import MOST_ACTS, MOST_STARTS, Child, FamilyEnd, FamilyStep
from steelyard.specs.job import HpoSpec, JobSpec, RlhfSpec
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason, may_move
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

NextStep = Callable[[Any, Sequence[Child]], FamilyStep]
"""What a family of one type wants next: a pure function of its spec and its children."""
ReadCurves = Callable[[AsyncSession, JobRow], Awaitable[Curves]]
"""Reads the curves of a family's children that its decision needs."""


@dataclass(frozen=True)
class FamilyStanding:
    """How a family stands after a look. `chosen`: the child whose model is to be registered now."""

    state: JobState
    over: bool
    chosen: str | None = None


async def no_curves(_session: AsyncSession, _parent: JobRow) -> Curves:
    """Know no curves."""
    return {}


class FamilyService:
    """Carries families on.

    Args:
        steps: type of job -> what such a family wants next.
        curves: reads what the children have told on their way.
    """

    def __init__(
        self,
        database: Database,
        steps: Mapping[str, NextStep],
        clock: Clock = utc_now,
        curves: ReadCurves = no_curves,
    ) -> None:
        self._database = database
        self._steps = steps
        self._clock = clock
        self._curves = curves

    async def advance(self, job_id: str, run_number: int) -> FamilyStanding:
        """Do what is due for a family's run. A run that isn't the present one is over.

        Raises:
            NotFound: no such job.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.run_number != run_number or job.state in TERMINAL_STATES:
                return FamilyStanding(JobState(job.state), over=True)
            look = _Look(session, job, self._clock(), self._steps[job.type], self._curves)
            chosen = await look.carry_on()
            return FamilyStanding(JobState(job.state), job.state in TERMINAL_STATES, chosen)

    async def give_up(self, job_id: str, run_number: int, reason: str, message: str) -> None:
        """Write down that a run fails, and why. The next look ends it; what was decided before stands."""
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.run_number == run_number and job.state not in TERMINAL_STATES and job.family_end is None:
                job.family_end = asdict(FamilyEnd(False, reason, message))

    async def note_registration(
        self, job_id: str, run_number: int, *, accepted: bool, reason: str | None = None, message: str = ""
    ) -> None:
        """Write down what became of the registration of a run's result: done, or refused for a reason."""
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            end = job.family_end
            if job.run_number != run_number or end is None or end.get("registered"):
                return
            refusal = {} if accepted else {"succeeded": False, "reason": reason, "message": message}
            job.family_end = {**end, **refusal, "registered": True}
            version = await repository.model_version_of(session, job)
            if version is not None and accepted:
                name = f"{version.name}@{version.version}"
                await append_event(
                    session, job, "model.registered", f"registered as {name}",
                    data={"name": version.name, "version": version.version, "job": version.job_id},
                )  # fmt: skip


def most_children(spec: JobSpec) -> int:
    """Return how many children a family of this spec makes at most."""
    if isinstance(spec, HpoSpec):
        return spec.search.trials
    return len(spec.stage_limits) if isinstance(spec, RlhfSpec) else 0


class _Look:
    """One look at a family whose row is locked."""

    def __init__(
        self, session: AsyncSession, job: JobRow, now: datetime, step: NextStep, curves: ReadCurves
    ) -> None:
        self._session = session
        self._job = job
        self._now = now
        self._step = step
        self._curves = curves
        self._kin: list[Kin] = []

    async def carry_on(self) -> str | None:
        """Do what is due; return the child whose model is to be registered now."""
        await tell_ends(self._session, self._job)
        await self._read()
        state = JobState(self._job.state)
        if state is JobState.PAUSED:
            return None
        if state is JobState.CANCELLING:
            return await self._cancel()
        if state is JobState.PAUSING:
            return await self._pause()
        begins = state is JobState.VALIDATING and self._job.family_end is None
        if (begins or state is JobState.RESUMING) and not await self._begin():
            return None
        return await self._work()

    async def _read(self) -> None:
        self._kin = await read_kin(self._session, self._job, await self._curves(self._session, self._job))

    async def _cancel(self) -> None:
        if not await self._stop_all(Reason.FAMILY_OVER, f"{self._job.id}, which made it, was cancelled"):
            await self._move(JobState.CANCELLED, Reason.CANCELLED_BY_USER, "cancelled")

    async def _pause(self) -> None:
        """Pause all children; the family is paused when all of them are, or over."""
        message = f"paused together with {self._job.id}, which made it; it goes on together with that"
        await self._each(
            [kin for kin in self._kin if kin.may_be_paused],
            lambda child_id: pause_child(self._session, child_id, message, self._now),
        )
        if all(kin.is_over or kin.child.state is JobState.PAUSED for kin in self._kin):
            await self._move(JobState.PAUSED, Reason.PAUSED_BY_USER, "paused, with all that it has made")

    async def _begin(self) -> bool:
        """Let go on what was paused with the family, and run.

        Returns whether that is done; a large family takes several looks.
        """
        if not await self._resume(PAUSED_WITH_FAMILY):
            return False
        await self._move(JobState.RUNNING, None, "at work")
        self._job.started_at = self._job.started_at or self._now
        await self._read()
        return True

    async def _resume(self, reasons: frozenset[Reason]) -> bool:
        """Let go on what was paused for one of these reasons; whether that was all."""
        paused = [
            kin for kin in self._kin if kin.child.state is JobState.PAUSED and kin.child.reason in reasons
        ]
        return await self._each(
            paused, lambda child_id: resume_child(self._session, child_id, reasons, self._now)
        )

    async def _each(self, kin: Sequence[Kin], act: Callable[[str], Awaitable[None]]) -> bool:
        """Do something to some children, or to the first of many and ask for another look; whether to all."""
        for each in kin[:MOST_ACTS]:
            await act(each.child.job_id)
        if len(kin) <= MOST_ACTS:
            return True
        await reach_family(self._session, self._job)
        return False

    async def _work(self) -> str | None:
        if await self._hold_for_budget():
            await self._pause()
            return None
        await self._resume(frozenset({Reason.FAMILY_PAUSED}))
        if self._job.family_end is None:
            await self._take_step()
        self._note_progress()
        return None if self._job.family_end is None else await self._end(self._job.family_end)

    async def _hold_for_budget(self) -> bool:
        """Pause the whole family where the budget has stopped a child."""
        for kin in self._kin:
            held = kin.child.state in (JobState.PAUSING, JobState.PAUSED)
            if held and kin.child.reason == Reason.BUDGET_EXHAUSTED:
                sentence = (kin.child.message or "the budget is used up").partition(";")[0]
                return await hold_for_budget(self._session, self._job, sentence, self._now)
        return False

    async def _take_step(self) -> None:
        """Ask what the family wants next, and do it. An order that can't be carried out ends the family."""
        try:
            children = [kin.child for kin in self._kin]
            step = await asyncio.to_thread(self._step, stored_spec(self._job), children)
            for stop in step.stop:
                await self._stop(stop.key, stop.reason, stop.message)
            for key in step.restart:
                await self._restart(key)
            for order in step.start:
                await add_child(self._session, self._job, order, self._now)
        except InvalidSpec as error:
            step = FamilyStep(end=FamilyEnd(False, Reason.BAD_CONFIG, error.message))
        if step.start or step.restart:
            await self._read()
        if len(step.start) + len(step.restart) >= MOST_STARTS:
            await reach_family(self._session, self._job)
        if step.message and step.message != self._job.status_message:
            self._job.status_message, self._job.updated_at = step.message, self._now
        if step.end is not None:
            await self._decide(step.end)

    async def _stop(self, key: str, reason: str, message: str) -> None:
        for kin in self._kin:
            if kin.child.key == key and kin.may_be_cancelled:
                await stop_child(self._session, kin.child.job_id, reason, message, self._now)

    async def _restart(self, key: str) -> None:
        for kin in self._kin:
            if kin.child.key == key and kin.child.is_due:
                await restart_child(self._session, self._job, kin.child.job_id, self._now)

    async def _decide(self, end: FamilyEnd) -> None:
        self._job.family_end = asdict(end)
        await append_event(
            self._session, self._job, "family.decided", end.message,
            level="info" if end.succeeded else "warn", data={"reason": end.reason, "chosen": end.chosen},
        )  # fmt: skip

    async def _end(self, end: dict[str, Any]) -> str | None:
        """End the family as it was decided, once its children are over and its result is registered."""
        if await self._stop_all(
            Reason.FAMILY_OVER, f"{self._job.id}, which made it, is over: {end['message']}"
        ):
            return None
        chosen = next((kin.child for kin in self._kin if kin.child.key == end["chosen"]), None)
        if chosen is not None:
            self._job.metrics = chosen.metrics
            self._job.family_end = {**end, "chosen_job": chosen.job_id}
        if end["succeeded"] and chosen is not None and not end.get("registered"):
            self._job.status_reason = Reason.REGISTERING
            self._job.status_message = f"registering the model of {chosen.key} ({chosen.job_id})"
            return chosen.job_id
        target = JobState.SUCCEEDED if end["succeeded"] else JobState.FAILED
        await self._move(target, end["reason"], end["message"])
        return None

    async def _stop_all(self, reason: str, message: str) -> bool:
        """Stop all children that are not over; whether there are any."""
        await self._each(
            [kin for kin in self._kin if kin.may_be_cancelled],
            lambda child_id: stop_child(self._session, child_id, reason, message, self._now),
        )
        return any(not kin.is_over for kin in self._kin)

    async def _move(self, target: JobState, reason: str | None, message: str) -> None:
        if may_move(JobState(self._job.state), target):
            await make_move(self._session, self._job, target, reason, message, self._now)

    def _note_progress(self) -> None:
        over = sum(kin.is_over and not kin.child.is_due for kin in self._kin)
        self._job.progress = {"step": over, "total_steps": most_children(stored_spec(self._job))}
