"""What people ask about jobs. Each answer is one short transaction."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.jobs import repository
from steelyard.jobs.costs import cost_of_job
from steelyard.jobs.explanation import explain
from steelyard.jobs.repository import JobFilter
from steelyard.jobs.trials import best_trial
from steelyard.jobs.views import checkpoint_view, event_view, summary_of, view_of
from steelyard.jobs.weighing import judgement_of
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.kit.paging import Page, page_of
from steelyard.specs.access import Permission
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    EventView,
    ExplainView,
    JobSummary,
    JobView,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import AttemptRow, JobRow, ModelVersionRow

_NAMED_CHILDREN = 5


class QueryService:
    """Reads jobs of a project that the actor may see; anything else is not found."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def get(self, actor: Actor, project: str, job_id: str) -> JobView:
        """Return a job whole.

        Raises:
            NotFound: no such job in the project; so do all methods here.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            attempts = await repository.attempts_of(session, job.id)
            version, children = await _made_by(session, job)
            view = view_of(job, attempts, version, children)
            gates = await judgement_of(session, job)
            best = await best_trial(session, job) if job.type == "hpo" else None
            more = {"cost": await cost_of_job(session, job), "gates": gates, "best": best}
            return view.model_copy(update=more)

    async def search(
        self, actor: Actor, project: str, filter_: JobFilter, limit: int, after: str | None
    ) -> Page[JobSummary]:
        """Return a page of jobs, newest first. The parent that a filter names must be there."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            if filter_.parent is not None:
                await repository.find_job(session, checked, filter_.parent)
            rows = await repository.list_jobs(session, checked, filter_, limit + 1, after)
        return page_of(
            [summary_of(job, attempt) for job, attempt in rows], limit, [job.id for job, _ in rows]
        )

    async def attempts(self, actor: Actor, project: str, job_id: str) -> list[AttemptView]:
        """Return a job's attempts, oldest first."""
        return (await self.get(actor, project, job_id)).attempts

    async def checkpoints(self, actor: Actor, project: str, job_id: str) -> list[CheckpointView]:
        """Return a job's checkpoints, newest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            return [checkpoint_view(row) for row in await repository.checkpoints_of(session, job.id)]

    async def events(
        self, actor: Actor, project: str, job_id: str, after: str | None, limit: int
    ) -> tuple[Page[EventView], bool]:
        """Return a page of events, oldest first, and whether the job had ended before it was read.

        Raises:
            InvalidRequest: `after` is not an event id.
        """
        position = _event_id(after)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            ended = JobState(job.state) in TERMINAL_STATES
            rows = await repository.events_of(session, job.id, position, limit + 1)
        page = page_of([event_view(row) for row in rows], limit, [str(row.id) for row in rows])
        return page, ended

    async def explain(self, actor: Actor, project: str, job_id: str) -> ExplainView:
        """Say why a job is where it is, and what would move it."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            view = await explain(session, job, self._clock())
            return view.model_copy(update={"cost": await cost_of_job(session, job)})

    async def log_folder(
        self, actor: Actor, project: str, job_id: str, number: int | None
    ) -> tuple[Path, bool]:
        """Return the folder of an attempt (default: the newest) and whether that attempt has ended."""
        attempts = await self._attempt_rows(actor, project, job_id)
        if not attempts:
            await self._refuse_log_of_family(actor, project, job_id)
        chosen = [row for row in attempts if number is None or row.number == number]
        if not chosen:
            which = "yet" if number is None else f"with number {number}"
            raise NotFound(f"{job_id} has no attempt {which}; 'steelyard explain {job_id}' says why")
        return Path(chosen[-1].attempt_dir), chosen[-1].state == "ended"

    async def _refuse_log_of_family(self, actor: Actor, project: str, job_id: str) -> None:
        """Name those who have logs in place of a family, which has none.

        Raises:
            InvalidRequest: it is one.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            if job.type not in FAMILY_TYPES:
                return
            newest = await repository.list_jobs(
                session, checked, JobFilter(parent=job.id), _NAMED_CHILDREN, None
            )
        names = ", ".join(f"{child.child_key} ({child.id})" for child, _ in newest) or "none yet"
        raise InvalidRequest(
            f"{job_id} is made of other jobs and has no log of its own; 'steelyard logs JOB' reads theirs:"
            f" {names}; all of them: 'steelyard list --parent {job_id}'"
        )

    async def _attempt_rows(self, actor: Actor, project: str, job_id: str) -> Sequence[AttemptRow]:
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            job = await repository.find_job(session, checked, job_id)
            return await repository.attempts_of(session, job.id)


async def _made_by(session: AsyncSession, job: JobRow) -> tuple[ModelVersionRow | None, dict[str, int]]:
    """Return the model version and the children that a job has made."""
    return await repository.model_version_of(session, job), await repository.child_counts(session, job)


def _event_id(after: str | None) -> int:
    if after is None or after == "":
        return 0
    if not after.isdecimal():
        raise InvalidRequest(
            f"{after!r} is not an event id; pass the id of the last event seen", param="after"
        )
    return int(after)
