"""What an evaluating attempt left behind, taken in: files to the object store, results to the database."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.store import BlobStore
from steelyard.evals import repository
from steelyard.evals.intervals import results_of
from steelyard.evals.samples import columns_of
from steelyard.governance.access import ProjectId
from steelyard.kit.canonical import digest_file, digest_json
from steelyard.kit.errors import Unavailable
from steelyard.kit.ids import new_id
from steelyard.specs.evaluations import (
    RESULT_NAME,
    RESULTS_FOLDER,
    SAMPLES_NAME,
    Cell,
    CellResult,
    MetricResult,
)
from steelyard.storage.tables import EvaluationRow, JobRow


@dataclass(frozen=True)
class Collected:
    """One result that is now in the database."""

    cell: Cell
    evaluation_id: str
    metrics: list[MetricResult]
    cached_from: str | None


@dataclass(frozen=True)
class Finding:
    """A cell's result as it lies in the job's folder, with its intervals; its samples are in the store."""

    result: CellResult
    metrics: list[MetricResult]


async def find_results(store_root: Path, job_folder: Path, cells: list[Cell]) -> dict[str, Finding]:
    """Return the results that a job's folder holds, by cell key, and put their samples into the store.

    Raises:
        Unavailable: a file changed while it was read, or the store refused it; try again.
    """
    return await asyncio.to_thread(_find_all, store_root, job_folder, cells)


async def enter_results(
    session: AsyncSession,
    job: JobRow,
    attempt_id: str,
    model_names: dict[str, str],
    cells: list[Cell],
    found: dict[str, Finding],
) -> list[Collected]:
    """Insert a row for each cell that has none in this run of the job; return what was inserted.

    A cell without a file of its own is one that was known: its row points to the one that it repeats.
    """
    collected: list[Collected] = []
    for cell in cells:
        finding = found.get(cell.key)
        values = (
            _values(finding) if finding else await _known_values(session, ProjectId(job.project_id), cell)
        )
        if values is None:
            continue
        identity: dict[str, Any] = {
            "id": new_id("eval"),
            "project_id": job.project_id,
            "job_id": job.id,
            "run_number": job.run_number,
            "attempt_id": attempt_id,
            "subject": cell.subject,
            "model_name": model_names[cell.subject],
            "model_digest": cell.model_digest,
            "suite": cell.suite,
            "suite_digest": cell.suite_digest,
            "settings": cell.settings,
            "settings_digest": cell.settings_digest,
            "engine": cell.engine,
        }
        if await repository.add_evaluation(session, identity | values):
            metrics = [MetricResult.model_validate(each) for each in values["metrics"]]
            collected.append(Collected(cell, identity["id"], metrics, values["cached_from"]))
    return collected


def _find_all(store_root: Path, job_folder: Path, cells: list[Cell]) -> dict[str, Finding]:
    store = BlobStore.at(store_root)
    found: dict[str, Finding] = {}
    for cell in cells:
        folder = job_folder / RESULTS_FOLDER / cell.key
        # A result of anything else than what was ordered is none.
        if (folder / RESULT_NAME).exists() and (finding := _find(store, folder)).result.cell.key == cell.key:
            found[cell.key] = finding
    return found


def _find(store: BlobStore, folder: Path) -> Finding:
    result = CellResult.model_validate_json((folder / RESULT_NAME).read_bytes())
    samples = folder / SAMPLES_NAME
    if digest_file(samples) != result.samples_digest or store.put_file(samples) != result.samples_digest:
        raise Unavailable(f"{samples} is not what its result says; retry the job to measure it again")
    return Finding(result, results_of(result.figures, columns_of(samples, result.figures)))


def _values(finding: Finding) -> dict[str, Any]:
    result, cell = finding.result, finding.result.cell
    metrics = [each.model_dump(mode="json") for each in finding.metrics]
    content = {
        "model": cell.model_digest,
        "suite": cell.suite_digest,
        "settings": cell.settings_digest,
        "records": result.records_digest,
        "metrics": metrics,
    }
    return {
        "n": result.n,
        "samples_digest": result.samples_digest,
        "metrics": metrics,
        "digest": digest_json(content),
        "seconds": result.seconds,
        "cached_from": None,
    }


async def _known_values(session: AsyncSession, project: ProjectId, cell: Cell) -> dict[str, Any] | None:
    row: EvaluationRow | None = await repository.known_result(session, project, cell)
    if row is None:
        return None
    return {
        "n": row.n,
        "samples_digest": row.samples_digest,
        "metrics": row.metrics,
        "digest": row.digest,
        "seconds": 0.0,
        "cached_from": row.cached_from or row.id,
    }
