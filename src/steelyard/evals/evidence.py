"""What was measured of one model in a project: the evidence that gates are judged by and approvals bound to.

Which result of a suite counts says `evals.selection`. Evidence with equal figures over equal samples has an
equal digest, whichever job measured it.
"""

from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals import repository
from steelyard.evals.selection import Chosen, choose
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
    others: Sequence[MetricEvidence] = ()
    """Figures with another content of a suite, which gates pin or another model was measured with."""

    def find(self, metric: str, suite_digest: str | None) -> MetricEvidence | None:
        """Return a figure, of a certain content where it was measured with that, else the one that counts."""
        first = self.metrics.get(metric)
        if suite_digest is None or (first is not None and first.suite_digest == suite_digest):
            return first
        pinned = (each for each in self.others if (each.metric, each.suite_digest) == (metric, suite_digest))
        return next(pinned, first)

    def like(self, other: MetricEvidence) -> MetricEvidence | None:
        """Return the figure that was measured as another model's was; the one that counts where none was."""
        first = self.metrics.get(other.metric)
        known = (*(() if first is None else (first,)), *self.others)
        return next((each for each in known if is_alike(each, other)), first)

    def name_of(self, found: MetricEvidence) -> str:
        """Return what tells a figure here from others of its metric."""
        if self.metrics.get(found.metric) == found:
            return found.metric
        return f"{found.metric}@{found.suite_digest}/{found.settings_digest}"


async def evidence_of(
    session: AsyncSession,
    project_id: ProjectId,
    model_digest: str,
    *,
    trained_by: str | None = None,
    pinned: Collection[str] = (),
    beside: Evidence | None = None,
) -> Evidence | None:
    """Return the evidence of a model in a project, or None where nothing was measured.

    Args:
        trained_by: id of the job that made it, whose data `heldout` and `choices` are of.
        pinned: digests of suites that gates name.
        beside: evidence of the model that this one is held beside.
    """
    like = {
        (_suite_of(each.metric), each.suite_digest, each.settings_digest)
        for each in ([*beside.metrics.values(), *beside.others] if beside else [])
    }
    chosen = await chosen_of(session, project_id, model_digest, trained_by, pinned, like)
    found = [each for row in chosen.first for each in metrics_of(row)]
    others = [each for row in chosen.others for each in metrics_of(row)]
    return assemble(model_digest, found, others) if found else None


async def chosen_of(
    session: AsyncSession,
    project_id: ProjectId,
    model_digest: str,
    trained_by: str | None = None,
    pinned: Collection[str] = (),
    like: Collection[tuple[str, str, str]] = (),
) -> Chosen:
    """Return the results that count of a model. As `evidence_of`; `like` as in `selection.choose`."""
    homes = await repository.homes_of(session, project_id, trained_by)
    rows = await repository.results_of_model(session, project_id, model_digest)
    return choose(rows, homes, pinned, like)


def assemble(
    model_digest: str, metrics: Sequence[MetricEvidence], others: Sequence[MetricEvidence] = ()
) -> Evidence:
    """Put figures together and digest them. Pure."""
    by_name = {each.metric: each for each in sorted(metrics, key=lambda each: each.metric)}
    content: dict[str, object] = {
        "model": model_digest,
        "metrics": {name: each.model_dump(mode="json") for name, each in by_name.items()},
    }
    if others:
        content["others"] = [each.model_dump(mode="json") for each in others]
    return Evidence(
        model_digest=model_digest, metrics=by_name, others=list(others), digest=digest_json(content)
    )


def is_alike(a: MetricEvidence, b: MetricEvidence) -> bool:
    """Whether two figures are the same measurement: content of the suite, and settings."""
    return (a.metric, a.suite_digest, a.settings_digest) == (b.metric, b.suite_digest, b.settings_digest)


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


def _suite_of(metric: str) -> str:
    return metric.rpartition("/")[0]
