"""What was measured of one model in a project: the evidence that gates are judged by and approvals bound to.

The newest result of each suite counts. Evidence with equal figures over equal samples has an equal digest,
whichever job measured it.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.canonical import digest_json
from steelyard.specs.evaluations import MetricResult
from steelyard.storage.tables import EvaluationRow


class SamplesReference(BaseModel):
    """Where the per-sample values of one metric are: a Parquet file in the object store, and its column.

    Column `sample_id` names the sample by its content: equal ids in two files are the same sample.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    """sha256 of the file; the object's key follows from it (`datasets.store.key_of`)."""
    column: str
    """Its values; null where the metric doesn't apply to a sample."""
    weight_column: str | None = None
    """Weights of the mean, such as tokens; None: all alike."""


class MetricEvidence(BaseModel):
    """One figure, with what is needed to judge how sure it is."""

    model_config = ConfigDict(frozen=True)

    metric: str
    """`suite/metric`."""
    mean: float
    standard_error: float
    n: int
    """Samples."""
    interval: tuple[float, float]
    """At 95 %: Wilson's for proportions, else Student's t or a bootstrap."""
    higher_is_better: bool
    suite_digest: str
    settings_digest: str
    """Results under other settings (number of samples, shots, template) are not the same measurement."""
    samples_digest: str
    samples: SamplesReference | None
    """None where the engine gives no value for a single sample."""
    proportion: bool = False
    """Whether every sample's value is 0 or 1."""


class Evidence(BaseModel):
    """All figures of one model. `digest` covers all else here."""

    model_config = ConfigDict(frozen=True)

    model_digest: str
    metrics: Mapping[str, MetricEvidence]
    digest: str


async def evidence_of(session: AsyncSession, project_id: ProjectId, model_digest: str) -> Evidence | None:
    """Return the evidence of a model in a project, or None where nothing was measured."""
    rows = await session.scalars(
        select(EvaluationRow)
        .ext(distinct_on(EvaluationRow.suite))
        .where(EvaluationRow.project_id == project_id, EvaluationRow.model_digest == model_digest)
        .order_by(EvaluationRow.suite, EvaluationRow.id.desc())
    )
    found = [each for row in rows for each in metrics_of(row)]
    return assemble(model_digest, found) if found else None


def assemble(model_digest: str, metrics: Sequence[MetricEvidence]) -> Evidence:
    """Put figures together and digest them. Pure."""
    by_name = {each.metric: each for each in sorted(metrics, key=lambda each: each.metric)}
    content = {
        "model": model_digest,
        "metrics": {name: each.model_dump(mode="json") for name, each in by_name.items()},
    }
    return Evidence(model_digest=model_digest, metrics=by_name, digest=digest_json(content))


def metrics_of(row: EvaluationRow) -> list[MetricEvidence]:
    """Return the figures of one evaluation."""
    return [_metric_of(row, MetricResult.model_validate(each)) for each in row.metrics]


def _metric_of(row: EvaluationRow, result: MetricResult) -> MetricEvidence:
    samples = None
    if result.column is not None:
        samples = SamplesReference(
            digest=row.samples_digest, column=result.column, weight_column=result.weight_column
        )
    return MetricEvidence(
        metric=f"{row.suite}/{result.name}",
        mean=result.mean,
        standard_error=result.standard_error,
        n=result.n,
        interval=result.interval,
        higher_is_better=result.higher_is_better,
        suite_digest=row.suite_digest,
        settings_digest=row.settings_digest,
        samples_digest=row.samples_digest,
        samples=samples,
        proportion=result.proportion,
    )
