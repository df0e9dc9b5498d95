"""What an evaluated cell leaves behind: its records as Parquet, then `result.json`, which makes it count."""
# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steelyard.kit.canonical import canonical_json, digest_file, digest_json
from steelyard.runtime.files import write_atomically
from steelyard.specs.evaluations import RESULT_NAME, SAMPLES_NAME, Cell, CellResult, Figure
from steelyard.trainers.evaluate_workload import Record

VALUE_PREFIX = "value."
WEIGHT_PREFIX = "weight."


def write_result(
    folder: Path, cell: Cell, records: Sequence[Record], figures: list[Figure], seconds: float
) -> CellResult:
    """Write a cell's result. Equal records give equal files; doing it again changes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(records, key=lambda each: (each.task, each.index))
    samples = folder / SAMPLES_NAME
    temporary = samples.with_name(f"{samples.name}.{os.getpid()}.tmp")
    pq.write_table(_table(ordered), temporary, compression="zstd")  # pyright: ignore[reportUnknownArgumentType]
    os.replace(temporary, samples)
    result = CellResult(
        cell=cell,
        n=len(ordered),
        samples_digest=digest_file(samples),
        records_digest=digest_json([each.to_json() for each in ordered]),
        figures=figures,
        seconds=seconds,
    )
    write_atomically(folder / RESULT_NAME, result.model_dump_json().encode())
    return result


def read_result(folder: Path) -> CellResult | None:
    """Return the result of a cell that is whole, or None."""
    try:
        result = CellResult.model_validate_json((folder / RESULT_NAME).read_bytes())
        whole = digest_file(folder / SAMPLES_NAME) == result.samples_digest
    except (OSError, ValueError):
        return None
    return result if whole else None


def _table(records: Sequence[Record]) -> pa.Table:
    columns: dict[str, Any] = {
        "sample_id": pa.array([each.sample_id for each in records], pa.string()),
        "task": pa.array([each.task for each in records], pa.string()),
        "index": pa.array([each.index for each in records], pa.int64()),
        "document": pa.array([each.document for each in records], pa.string()),
        "target": pa.array([each.target for each in records], pa.string()),
        "output": pa.array([canonical_json(each.output).decode() for each in records], pa.string()),
    }
    for name in sorted({name for each in records for name in each.values}):
        columns[f"{VALUE_PREFIX}{name}"] = pa.array([each.values.get(name) for each in records], pa.float64())
    for name in sorted({name for each in records for name in each.weights}):
        columns[f"{WEIGHT_PREFIX}{name}"] = pa.array(
            [each.weights.get(name) for each in records], pa.float64()
        )
    return pa.table(columns)
