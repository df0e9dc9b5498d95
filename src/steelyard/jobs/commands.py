"""Commands: what people ask of a job. One transaction each; the workflow carries them out."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.hints import wake_scheduler
from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.jobs import repository
from steelyard.jobs.costs import reserve_job
from steelyard.jobs.entries import promise_run
from steelyard.jobs.events import append_event
from steelyard.jobs.family_rules import RUN_KEY, most_at_once, refuse_for_family, refuse_for_room
from steelyard.jobs.idempotency import Replays
from steelyard.jobs.repository import JobFilter
from steelyard.jobs.specs import stored_spec
from steelyard.jobs.views import view_of
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidTransition, NotFound
from steelyard.kit.paging import MAX_LIMIT
from steelyard.specs.access import Permission
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import TERMINAL_STATES, VERBS, JobState, Reason, Verb, refuse_verb
from steelyard.specs.views import JobView
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import JobRow

SIGNAL_TOPIC = "signal_job"

_MESSAGES = {
    Verb.CANCEL: "cancelling: training stops at the end of its step",
    Verb.PAUSE: "pausing: training stops at the end of its step and saves",
    Verb.RESUME: "resuming from the newest checkpoint as soon as there is room",
    Verb.RETRY: "retrying",
}
Change = Callable[[AsyncSession, JobRow], Awaitable[None]]
"""What a verb does to the locked row beside moving its state."""

_GOING_ON = (Verb.RESUME, Verb.RETRY)
_DESIRED = {Verb.CANCEL: "cancel", Verb.PAUSE: "pause", Verb.RESUME: "run", Verb.RETRY: "run"}


class CommandService:
    """Takes commands. A command given again with the same idempotency key is answered as before."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def cancel(self, actor: Actor, project: str, job_id: str, key: str | None = None) -> str:
        """Stop the job at a step's end and end it. Returns the job as JSON text, as do all commands.

        Raises:
            NotFound: no such job in the project.
            InvalidTransition: the job's state doesn't allow it; the message names the state.
        """
        return await self._command(actor, project, job_id, Verb.CANCEL, key, no_change)

    async def pause(self, actor: Actor, project: str, job_id: str, key: str | None = None) -> str:
        """Stop at a step's end with a checkpoint and give the slot back. Raises as `cancel`."""
        return await self._command(actor, project, job_id, Verb.PAUSE, key, no_change)

    async def resume(self, actor: Actor, project: str, job_id: str, key: str | None = None) -> str:
        """Queue a paused job again, and reserve what it may still use.

        Raises:
            NotFound: no such job in the project.
            InvalidTransition: the job isn't paused.
            BudgetExceeded: the project's budget doesn't have it.
        """
        return await self._command(actor, project, job_id, Verb.RESUME, key, no_change)

    async def retry(
        self,
        actor: Actor,
        project: str,
        job_id: str,
        checkpoint: str | None = None,
        step: int | None = None,
        key: str | None = None,
    ) -> str:
        """Run an ended job again from its newest, or from a named checkpoint.

        Raises:
            NotFound: no such job, or no such checkpoint of it.
            InvalidTransition: the job has not failed and was not cancelled.
            BudgetExceeded: the project's budget doesn't have what it may use.
        """

        async def begin(session: AsyncSession, job: JobRow) -> None:
            named = await _named_checkpoint(session, job, checkpoint, step)
            await begin_run(session, job)
            if named is not None:
                job.resume_checkpoint_id = named
                job.stage = "train"
                job.model_dir = None

        arguments = f"{checkpoint or ''}/{'' if step is None else step}"
        return await self._command(actor, project, job_id, Verb.RETRY, key, begin, arguments)

    async def set_priority(
        self, actor: Actor, project: str, job_id: str, priority: int, key: str | None = None
    ) -> str:
        """Change the job's place in the queue at once; raised, it may take the place of lower ones.

        A running job keeps it for its next wait, and against those that would take its place.
        """

        async def change(session: AsyncSession, job: JobRow) -> None:
            job.priority = priority
            if job.type in FAMILY_TYPES:
                await repository.set_priority_of_children(session, job.id, priority)

        return await self._command(actor, project, job_id, Verb.SET_PRIORITY, key, change, str(priority))

    async def cancel_many(
        self, actor: Actor, project: str, filter_: JobFilter, ids: list[str]
    ) -> list[tuple[str, bool, str]]:
        """Cancel jobs by id, or all live ones that match. Returns (id, accepted, message) for each."""
        if not ids:
            live = tuple(state for state in JobState if state not in TERMINAL_STATES)
            filter_ = JobFilter(states=live, type=filter_.type, name=filter_.name, tags=filter_.tags)
            async with self._database.transaction() as session:
                checked = await access.authorize(session, actor, project, Permission.JOB_CONTROL)
                ids = await repository.list_ids(session, checked, filter_, MAX_LIMIT * 10)
        results: list[tuple[str, bool, str]] = []
        for job_id in ids:
            try:
                await self.cancel(actor, project, job_id)
                results.append((job_id, True, "cancelling"))
            except (InvalidTransition, NotFound) as error:
                results.append((job_id, False, error.message))
        return results

    async def _command(
        self,
        actor: Actor,
        project: str,
        job_id: str,
        verb: Verb,
        key: str | None,
        change: Change,
        arguments: str = "",
    ) -> str:
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_CONTROL)
            replays = Replays(session, checked, key, f"{verb}/{job_id}/{arguments}")
            if (stored := await replays.find()) is not None:
                return stored
            parent = await repository.lock_parent(session, checked, job_id)
            job = await repository.find_job(session, checked, job_id, lock=True)
            if (stored := await replays.find()) is not None:
                return stored
            if not _is_under_way(verb, job):
                await _require_family_allows(session, verb, job, parent)
                await apply_verb(session, actor, job, verb, self._clock(), change, arguments)
                if verb is Verb.RETRY and parent is not None:
                    join_run(job, parent)
            elif job.status_reason == Reason.BUDGET_EXHAUSTED:
                # What a person wants paused doesn't go on by itself when there is money again.
                job.status_reason, job.status_message = None, _MESSAGES[verb]
            response = (await _view(session, job)).model_dump_json()
            await replays.store(job.id, response)
        return response


async def no_change(_session: AsyncSession, _job: JobRow) -> None:
    """Leave all but the state as it is."""
    return


async def begin_run(_session: AsyncSession, job: JobRow) -> None:
    """Make a job's next run its present one: what was counted counts from nothing again."""
    job.run_number += 1
    job.retries_used = 0
    job.evictions = 0
    job.running_seconds = 0.0
    job.ended_at = None
    job.family_end = None


def join_run(child: JobRow, parent: JobRow) -> None:
    """Note that a child was started again in its family's present run, which therefore won't do so."""
    child.child_order = {**(child.child_order or {}), RUN_KEY: parent.run_number}


async def apply_verb(
    session: AsyncSession,
    actor: Actor,
    job: JobRow,
    verb: Verb,
    now: datetime,
    change: Change = no_change,
    arguments: str = "",
) -> None:
    """Carry a verb into the locked row of a job, with event, audit, its effect, and what it reserves.

    Raises:
        InvalidTransition: the job's state doesn't allow it.
        BudgetExceeded: the budget has nothing left for a job that is to go on.
    """
    refusal = refuse_verb(verb, JobState(job.state))
    if refusal is not None:
        raise InvalidTransition(refusal)
    before = _for_audit(job)
    await change(session, job)
    _, target = VERBS[verb]
    if target is not None:
        job.state = target
        job.status_reason = Reason.CANCELLED_BY_USER if verb is Verb.CANCEL else None
        job.status_message = _MESSAGES[verb]
        job.desired = _DESIRED[verb]
        job.command_sequence += 1
    job.updated_at = now
    await append_event(
        session, job, f"job.{verb}", f"{verb.value.replace('_', ' ')} asked for by {actor.id}",
        data={"arguments": arguments} if arguments else None,
    )  # fmt: skip
    await audit.record_change(
        session, actor, f"job.{verb}", "job", job.id, before, _for_audit(job),
        project_id=job.project_id, detail={"arguments": arguments},
    )  # fmt: skip
    await _promise(session, job, verb)
    if verb in _GOING_ON:
        await reserve_job(session, job, now)


async def _require_family_allows(
    session: AsyncSession, verb: Verb, job: JobRow, parent: JobRow | None
) -> None:
    """Hold what a person asks of a child by itself against where its family, whose row is locked, stands.

    Raises:
        InvalidTransition: its family doesn't allow it.
    """
    if parent is None or refuse_verb(verb, JobState(job.state)) is not None:
        return
    refusal = refuse_for_family(verb, job.status_reason, parent.id, JobState(parent.state))
    if refusal is None and verb is Verb.RETRY:
        counts = await repository.child_counts(session, parent)
        live = sum(count for state, count in counts.items() if state not in TERMINAL_STATES)
        refusal = refuse_for_room(live, most_at_once(stored_spec(parent)), parent.id)
    if refusal is not None:
        raise InvalidTransition(f"can't {verb.value} {job.id}: {refusal}")


def _for_audit(job: JobRow) -> dict[str, Any]:
    """Return what commands change of a job."""
    return {"state": str(job.state), "desired": job.desired, "priority": job.priority, "run": job.run_number}


def _is_under_way(verb: Verb, job: JobRow) -> bool:
    """Whether the job is on its way to what is asked, so that asking again changes nothing."""
    return verb in (Verb.CANCEL, Verb.PAUSE, Verb.RESUME) and job.state == VERBS[verb][1]


async def _named_checkpoint(
    session: AsyncSession, job: JobRow, checkpoint: str | None, step: int | None
) -> str | None:
    if checkpoint is None and step is None:
        return None
    rows = await repository.checkpoints_of(session, job.id)
    usable = [row for row in rows if row.status == "available"]
    for row in usable:
        if row.id == checkpoint or (checkpoint is None and row.step == step):
            return row.id
    steps = ", ".join(str(row.step) for row in usable) or "none"
    raise NotFound(
        f"{job.id} has no available checkpoint {checkpoint or f'at step {step}'}; steps there are: {steps}",
        param="checkpoint" if checkpoint else "step",
    )


async def _promise(session: AsyncSession, job: JobRow, verb: Verb) -> None:
    """Write down the effect that carries the command out."""
    if verb is Verb.SET_PRIORITY:
        await wake_scheduler(session)
        return
    if verb is Verb.RETRY or job.type in FAMILY_TYPES:
        # A family's workflow reads what is wanted where it stands: in the row.
        await promise_run(session, job)
        return
    await enqueue(
        session,
        SIGNAL_TOPIC,
        job.id,
        {
            "run_number": job.run_number,
            "signal": "command",
            "sequence": job.command_sequence,
            "desired": job.desired,
        },
    )


async def _view(session: AsyncSession, job: JobRow) -> JobView:
    await session.flush()
    attempts = await repository.attempts_of(session, job.id)
    version = await repository.model_version_of(session, job)
    return view_of(job, attempts, version, await repository.child_counts(session, job))
