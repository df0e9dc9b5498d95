"""Results of a job's evaluation, taken in when its attempt has ended and before that is written down.

Doing it again changes nothing: a run of a job has one row for each model and suite.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.collection import Collected, enter_results, find_results
from steelyard.evals.orders import evaluation_orders
from steelyard.governance import audit
from steelyard.governance.identity import SYSTEM
from steelyard.jobs import repository
from steelyard.jobs.events import append_event
from steelyard.jobs.finished_models import finished_model
from steelyard.jobs.launching import spec_of
from steelyard.jobs.lifecycle import Folders
from steelyard.specs.cells import Evaluated
from steelyard.specs.job import EvalOnlySpec
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow


class EvaluationService:
    """Takes results in."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    async def collect(self, attempt_id: str) -> int:
        """Take in what an attempt has measured; return how many results were new.

        An attempt of another stage has none.

        Raises:
            Unavailable: the object store doesn't take the files; try again.
        """
        async with self._database.transaction() as session:
            attempt = await repository.find_attempt(session, attempt_id)
            job = await session.get_one(JobRow, attempt.job_id)
        if attempt.stage != "evaluate":
            return 0
        spec = spec_of(job)
        folder = self._folders.job(job.project_id, job.id)
        tuned = await finished_model(self._folders, job)
        orders = await evaluation_orders(self._database, job, spec, tuned)
        if orders is None:
            return 0
        found = await find_results(self._folders.objects, folder, orders.cells)
        names = _model_names(job, spec)
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job.id)
            collected = await enter_results(session, job, attempt_id, names, orders.cells, found)
            for each in collected:
                await _tell(session, job, each)
        return len(collected)


def _model_names(job: JobRow, spec: Evaluated) -> dict[str, str]:
    if isinstance(spec, EvalOnlySpec) and spec.endpoint is not None:
        return {"base": f"{spec.endpoint.model} at {spec.endpoint.url}"}
    base = spec.model.name_or_path if spec.model else ""
    return {"base": base, "tuned": job.name}


async def _tell(session: AsyncSession, job: JobRow, collected: Collected) -> None:
    cell = collected.cell
    what = f"{cell.suite} of the {cell.subject} model"
    if collected.cached_from is None:
        kind, message = "evaluation.measured", f"measured {what}"
    else:
        kind = "evaluation.cached"
        message = f"answered {what} from {collected.cached_from}, which measured the same"
    data = {"evaluation": collected.evaluation_id, "suite": cell.suite, "subject": cell.subject}
    if collected.cached_from is not None:
        data["cached_from"] = collected.cached_from
    await append_event(session, job, kind, message, data=data)
    await audit.record(
        session, SYSTEM, kind, "evaluation", collected.evaluation_id, project_id=job.project_id,
        detail={"job": job.id, "suite": cell.suite, "model": cell.model_digest},
    )  # fmt: skip
