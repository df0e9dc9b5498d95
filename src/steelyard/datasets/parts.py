# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""First pass: each chunk of the input becomes a part, its rows cleaned, and sorted by their ids.

A row's id is the sha256 of its content after cleaning. Everything that follows orders rows by it, so
neither the order of files nor the number of workers shows in the result.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from steelyard.datasets.asking import asked_keys
from steelyard.datasets.cleaning import row_stages
from steelyard.datasets.columns import ID_COLUMN, Layout
from steelyard.datasets.decontamination import EvaluationIndex
from steelyard.datasets.reading import Fault, Plan, Tally, read_tables
from steelyard.datasets.spool import Chunk
from steelyard.datasets.stages import Example, RowStage, StageTally, apply
from steelyard.datasets.texts import digests_of, joined_texts, row_keys
from steelyard.datasets.work import publish_file, read_json, write_json
from steelyard.specs.datasets import DatasetSpec

PREFIX_COLUMN = "__prefix"
SPLIT_COLUMN = "__split"
SIZE_COLUMN = "__size"
_ROW_GROUP = 2048


@dataclass(frozen=True)
class PartTask:
    """What one worker needs to make one part."""

    key: str
    chunk: Chunk
    name: str
    plan: Plan
    spec: DatasetSpec
    evaluation: Path | None
    """File of the evaluation sets' n-grams."""
    folder: Path


@dataclass
class Part:
    """A finished part."""

    key: str
    path: Path
    read: Tally
    stages: list[StageTally]
    rows: int
    text_bytes: int


def make_part(task: PartTask) -> Part:
    """Make the part, or return the one that an earlier run finished.

    Raises:
        InvalidDataset: the chunk can't be read, or mixes shapes.
    """
    path = task.folder / f"{task.key}.parquet"
    if (done := read_json(task.folder / f"{task.key}.json")) is not None:
        return _revive(done, task.key, path)
    tally = Tally()
    stages = row_stages(task.spec, task.plan.layout, _load(task.evaluation))
    tallies = [StageTally(stage.name) for stage in stages]
    cleaned = list(_clean(task, stages, tallies, tally))
    part = Part(task.key, path, tally, tallies, 0, 0)
    if cleaned:
        _write(task, pa.concat_tables(cleaned), part)
    write_json(task.folder / f"{task.key}.json", _freeze(part))
    return part


def _load(path: Path | None) -> EvaluationIndex | None:
    return None if path is None else EvaluationIndex.load(path)


def _clean(
    task: PartTask, stages: Sequence[RowStage], tallies: Sequence[StageTally], tally: Tally
) -> Iterator[pa.Table]:
    layout = task.plan.layout
    for table in read_tables(task.chunk, task.name, task.plan, tally):
        for stage, stage_tally in zip(stages, tallies, strict=True):
            begun = time.perf_counter()
            table = apply(stage, layout, table, stage_tally)
            stage_tally.seconds += time.perf_counter() - begun
        if table.num_rows:
            yield _identify(layout, table, task.spec)


def _identify(layout: Layout, table: pa.Table, spec: DatasetSpec) -> pa.Table:
    ids = digests_of(row_keys(layout, table))
    splits = digests_of(asked_keys(layout, table), salt=f"{spec.split.seed}:")
    sizes = joined_texts(layout, table).str.len_bytes()
    columns = {
        ID_COLUMN: ids.to_arrow().cast(pa.binary()),
        PREFIX_COLUMN: _first_bytes(ids, 4, pl.UInt32()).to_arrow(),
        SPLIT_COLUMN: _first_bytes(splits, 8, pl.UInt64()).to_arrow(),
        SIZE_COLUMN: sizes.to_arrow(),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _first_bytes(digests: pl.Series, count: int, dtype: pl.DataType) -> pl.Series:
    return digests.bin.slice(0, count).bin.reinterpret(dtype=dtype, endianness="big")


def _write(task: PartTask, table: pa.Table, part: Part) -> None:
    table = table.sort_by([(ID_COLUMN, "ascending")])
    unfinished = part.path.with_name(part.path.name + ".part")
    pq.write_table(table, unfinished, row_group_size=_ROW_GROUP, compression="zstd", compression_level=1)
    publish_file(unfinished, part.path)
    part.rows = table.num_rows
    part.text_bytes = int(pl.Series(table.column(SIZE_COLUMN)).sum())


def _freeze(part: Part) -> dict[str, Any]:
    frozen = asdict(part)
    del frozen["path"]
    return frozen


def _revive(done: dict[str, Any], key: str, path: Path) -> Part:
    read: dict[str, Any] = done["read"]
    faults = [Fault(**fault) for fault in read.pop("faults")]
    stages = [revive_tally(stage) for stage in done["stages"]]
    return Part(key, path, Tally(**read, faults=faults), stages, done["rows"], done["text_bytes"])


def revive_tally(stage: dict[str, Any]) -> StageTally:
    """Make a tally again from its JSON form."""
    tally = StageTally(**stage)
    tally.examples = [Example(**example) for example in stage["examples"]]
    return tally
