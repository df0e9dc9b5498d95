"""What an evaluating attempt is told: its cells, and which of them are known already."""

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals import repository
from steelyard.governance.access import ProjectId
from steelyard.runtime.manifests import read_manifest
from steelyard.specs.cells import Contestant, Evaluated, endpoint_digest, plan_cells
from steelyard.specs.evaluations import Cell, EvaluationOrders, MetricResult, SuiteFolder
from steelyard.specs.job import EvalOnlySpec
from steelyard.storage.database import Database
from steelyard.storage.tables import EvaluationRow, JobRow

_ADAPTER_CONFIG = "adapter_config.json"


async def evaluation_orders(
    database: Database, job: JobRow, spec: Evaluated, tuned: Path | None
) -> EvaluationOrders | None:
    """Return the orders of a job's evaluation; None where it has none.

    Args:
        tuned: folder of the finished model, where the job made one.
    """
    if spec.evaluation is None:
        return None
    suites = [SuiteFolder.model_validate(each) for each in job.prepared.get("suites", [])]
    contestants = await asyncio.to_thread(contestants_of, job, spec, tuned)
    cells = plan_cells(spec, contestants, suites, dataset_of(job))
    if may_be_known(spec):
        async with database.transaction() as session:
            cells = [await _look_up(session, job, cell) for cell in cells]
    return EvaluationOrders(cells=cells, suites=suites)


def contestants_of(job: JobRow, spec: Evaluated, tuned: Path | None) -> list[Contestant]:
    """Return the models that a job's evaluation measures. Reads the finished model's manifest."""
    if isinstance(spec, EvalOnlySpec) and spec.endpoint is not None:
        return [Contestant("base", endpoint_digest(spec.endpoint))]
    base = str(job.lineage["base_model"])
    found = [Contestant("base", base, job.lineage.get("adapter_base"))]
    if tuned is not None:
        adapter = (tuned / _ADAPTER_CONFIG).exists()
        found.append(Contestant("tuned", read_manifest(tuned).digest(), base if adapter else None))
    return found


def dataset_of(job: JobRow) -> dict[str, str] | None:
    """Return digest and format of a job's data."""
    prepared = job.prepared.get("dataset")
    return {"digest": prepared["digest"], "format": prepared["format"]} if prepared else None


def may_be_known(spec: Evaluated) -> bool:
    """Whether results may be taken from before: never for an endpoint, whose weights nobody sees."""
    endpoint = isinstance(spec, EvalOnlySpec) and spec.endpoint is not None
    return spec.evaluation is not None and spec.evaluation.use_cache and not endpoint


def known_figures(cell: Cell, row: EvaluationRow) -> dict[str, float]:
    """Return a known result under the names that a job's metrics have."""
    found: dict[str, float] = {}
    for each in row.metrics:
        result = MetricResult.model_validate(each)
        name = f"{cell.subject}/{cell.suite}/{result.name}"
        found |= {name: result.mean, f"{name}/stderr": result.standard_error}
    return found | {f"{cell.subject}/{cell.suite}/n": float(row.n)}


async def _look_up(session: AsyncSession, job: JobRow, cell: Cell) -> Cell:
    row = await repository.known_result(session, ProjectId(job.project_id), cell)
    return cell if row is None else cell.model_copy(update={"known": known_figures(cell, row)})
