"""A model beside the one that it was trained from: which that is, and what was measured of it alike."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals import repository
from steelyard.evals.comparison import compare_metric
from steelyard.evals.evidence import metrics_of
from steelyard.evals.samples import SampleReader
from steelyard.governance.access import ProjectId
from steelyard.kit.errors import NotFound
from steelyard.specs.comparisons import BaseComparison
from steelyard.storage.tables import CheckpointRow, EvaluationRow, JobRow, ModelVersionRow


@dataclass(frozen=True)
class BaseResult:
    """What is known of a base model: its result, or why there is none."""

    name: str | None = None
    digest: str | None = None
    result: EvaluationRow | None = None
    message: str = ""


async def base_of(session: AsyncSession, project: ProjectId, row: EvaluationRow) -> BaseResult:
    """Return the result of the base model, of the same suite's content under the same settings."""
    job = await _trained_by(session, project, row)
    if job is None:
        return BaseResult(message="no base model: this one was not trained here")
    digest, name = job.lineage.get("base_model"), job.lineage.get("base_model_name")
    if digest is None or digest == row.model_digest:
        return BaseResult(message="no base model: this one was not trained from another")
    found = await repository.result_alike(session, project, digest, row)
    if found is None:
        words = (
            f"not measured: the base model {name} has no result of this suite under these settings; "
            f"'steelyard evals run {name} --suite {row.suite}' measures it"
        )
        return BaseResult(name, digest, None, words)
    return BaseResult(name, digest, found)


def beside_base(row: EvaluationRow, base: BaseResult, reader: SampleReader) -> BaseComparison:
    """Compare a result with the base model's, over the samples that both have. Blocking."""
    if base.result is None:
        return BaseComparison(model_name=None, model_digest=base.digest, message=base.message)
    mine = {each.metric: each for each in metrics_of(row)}
    theirs = {each.metric: each for each in metrics_of(base.result)}
    try:
        metrics = [
            compare_metric(name, theirs[name], mine[name], reader.pairs(mine[name], theirs[name]))
            for name in sorted(mine.keys() & theirs.keys())
        ]
    except NotFound as error:
        return BaseComparison(model_digest=base.digest, message=f"not comparable: {error.message}")
    return BaseComparison(
        evaluation=base.result.id, model_name=base.name, model_digest=base.digest, metrics=metrics
    )


async def _trained_by(session: AsyncSession, project: ProjectId, row: EvaluationRow) -> JobRow | None:
    """Return the job that made a model: this evaluation's own, or that of a version or checkpoint."""
    job_id: str | None = row.job_id
    if row.subject == "base":
        job_id = await session.scalar(
            select(ModelVersionRow.job_id)
            .where(ModelVersionRow.project_id == project, ModelVersionRow.manifest_digest == row.model_digest)
            .limit(1)
        ) or await session.scalar(
            select(CheckpointRow.job_id)
            .where(CheckpointRow.project_id == project, CheckpointRow.manifest_digest == row.model_digest)
            .limit(1)
        )
    if job_id is None:
        return None
    return await session.scalar(select(JobRow).where(JobRow.project_id == project, JobRow.id == job_id))
