"""What a watcher must know of an attempt while it runs."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ScalarSelect, func, select

from steelyard.jobs import repository
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound
from steelyard.storage.database import Database
from steelyard.storage.tables import AllocationRow, AttemptRow, JobRow, NodeRow


@dataclass(frozen=True)
class AttemptState:
    """When it last reported, why it should stop (None: it shouldn't), and its time left."""

    last_report_at: datetime | None
    stop_reason: str | None
    runtime_left_seconds: float
    node_left_seconds: float | None = None
    """Until its first node is taken away; None: that is not announced."""


class SupervisionService:
    """Reads attempts for their watchers."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def job_of(self, attempt_id: str) -> str:
        """Return the id of the job that an attempt belongs to.

        Raises:
            NotFound: no such attempt.
        """
        async with self._database.transaction() as session:
            return (await repository.find_attempt(session, attempt_id)).job_id

    async def has_run(self, attempt_id: str) -> bool:
        """Return whether processes of an attempt were ever seen or heard of.

        Raises:
            NotFound: no such attempt.
        """
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            return attempt.pid is not None or attempt.last_report_at is not None

    async def look_at(self, attempt_id: str) -> AttemptState:
        """Return an attempt's state.

        Raises:
            NotFound: no such attempt.
        """
        query = (
            select(
                AttemptRow.last_report_at,
                AttemptRow.stop_reason,
                AttemptRow.started_at,
                JobRow.running_seconds,
                JobRow.spec["limits"]["max_runtime_seconds"].as_float().label("limit"),
                _first_deadline().label("deadline"),
            )
            .join(JobRow, JobRow.id == AttemptRow.job_id)
            .where(AttemptRow.id == attempt_id)
        )
        async with self._database.transaction() as session:
            row = (await session.execute(query)).first()
        if row is None:
            raise NotFound(f"no attempt {attempt_id!r}")
        now = self._clock()
        used = row.running_seconds + (now - row.started_at).total_seconds()
        node_left = None if row.deadline is None else (row.deadline - now).total_seconds()
        return AttemptState(row.last_report_at, row.stop_reason, row.limit - used, node_left)


def _first_deadline() -> ScalarSelect[datetime | None]:
    return (
        select(func.min(NodeRow.interruption_deadline))
        .join(AllocationRow, AllocationRow.node == NodeRow.name)
        .where(AllocationRow.job_id == JobRow.id)
        .correlate(JobRow)
        .scalar_subquery()
    )
