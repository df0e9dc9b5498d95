"""What a run has still to do."""

from dataclasses import dataclass

from steelyard.jobs import repository
from steelyard.jobs.stages import stages_from
from steelyard.jobs.weighing import gates_of
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow


@dataclass(frozen=True)
class Outline:
    """The rest of a run."""

    stages: list[str]
    max_retries: int
    grace_seconds: float
    registers: bool


class PlanningService:
    """Reads the plan of a run from where its job stands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outline(self, job_id: str) -> Outline:
        """Return what is left to do.

        Raises:
            NotFound: no such job.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
        limits = job.spec["limits"]
        return Outline(
            stages=stages_from(job.stage, job.spec),
            max_retries=limits["max_retries"],
            grace_seconds=limits["stop_grace_seconds"],
            registers=_registers(job),
        )


def _registers(job: JobRow) -> bool:
    """Whether a run ends with gates and registration. A family sees to both for children that don't."""
    if job.child_order is not None and not job.child_order["registers"]:
        return False
    return job.type == "fine_tune" or bool(gates_of(job))
