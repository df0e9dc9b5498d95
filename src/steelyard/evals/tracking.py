"""What MLflow is told of evaluations: both ends of each interval, what changed from the base model, and where
the per-sample records are."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.base_models import BaseResult, base_of, beside_base
from steelyard.evals.samples import SampleReader
from steelyard.governance.access import ProjectId
from steelyard.specs.evaluations import MetricResult
from steelyard.storage.tables import EvaluationRow, JobRow


async def evaluations_of_run(session: AsyncSession, job: JobRow) -> Sequence[EvaluationRow]:
    """Return the results of a job's present run."""
    query = select(EvaluationRow).where(
        EvaluationRow.job_id == job.id, EvaluationRow.run_number == job.run_number
    )
    return list(await session.scalars(query.order_by(EvaluationRow.id)))


def interval_ends(rows: Sequence[EvaluationRow]) -> dict[str, float]:
    """Return `<subject>/<suite>/<metric>/low` and `/high`. The figures themselves are the job's metrics."""
    found: dict[str, float] = {}
    for row in rows:
        for each in map(MetricResult.model_validate, row.metrics):
            name = f"{row.subject}/{row.suite}/{each.name}"
            found |= {f"{name}/low": each.interval[0], f"{name}/high": each.interval[1]}
    return found


async def bases_of_run(
    session: AsyncSession, rows: Sequence[EvaluationRow]
) -> Sequence[tuple[EvaluationRow, BaseResult]]:
    """Return each result with that of the model which its own was trained from."""
    return [(row, await base_of(session, ProjectId(row.project_id), row)) for row in rows]


def changes_from_base(
    pairs: Sequence[tuple[EvaluationRow, BaseResult]], reader: SampleReader
) -> dict[str, float]:
    """Return `<subject>/<suite>/<metric>/change`, `/change_low` and `/change_high`: the model minus its base,
    over the same samples. What has no base that was measured alike has none of them. Blocking."""
    found: dict[str, float] = {}
    for row, base in pairs:
        for each in beside_base(row, base, reader).metrics:
            if each.difference is not None and each.interval is not None:
                name = f"{row.subject}/{each.metric}/change"
                found |= {name: each.difference, f"{name}_low": each.interval[0]}
                found |= {f"{name}_high": each.interval[1]}
    return found


def evaluation_links(rows: Sequence[EvaluationRow]) -> dict[str, str]:
    """Return a tag for each result: the path of its per-sample records in the api, and their digest."""
    return {
        f"steelyard.evaluation.{row.subject}.{row.suite.replace(':', '.').replace('/', '.')}": (
            f"/v1/projects/{row.project_id}/evaluations/{row.id}/samples {row.samples_digest}"
        )
        for row in rows
    }
