# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Second pass: rows are gathered from all parts by ranges of their ids, and equal rows become one.

A bucket is an equal share of the space of ids. How many there are follows from the amount of text alone.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steelyard.datasets.columns import FILE_COLUMN, ID_COLUMN, LINE_COLUMN, Layout
from steelyard.datasets.minhash import SignatureFile, write_signatures
from steelyard.datasets.parts import PREFIX_COLUMN, Part, revive_tally
from steelyard.datasets.stages import StageTally, examples_of
from steelyard.datasets.texts import joined_texts
from steelyard.datasets.work import publish_file, read_json, write_json
from steelyard.specs.datasets import DatasetSpec

BUCKET_BYTES = 48 << 20
_ROW_COST_BYTES = 64
_ROW_GROUP = 8192
"""Of equal size but the last: single rows of large groups are read for the report."""
_ORDER = [(ID_COLUMN, "ascending"), (FILE_COLUMN, "ascending"), (LINE_COLUMN, "ascending")]


@dataclass(frozen=True)
class BucketTask:
    """What one worker needs to make one bucket."""

    number: int
    count: int
    parts: list[Path]
    layout: Layout
    spec: DatasetSpec
    compare_at: float | None
    """Least similarity of near-duplicates that will be looked for; None: not at all."""
    folder: Path

    @property
    def path(self) -> Path:
        """The bucket's rows."""
        return self.folder / f"bucket-{self.number:05d}.parquet"


@dataclass
class Bucket:
    """A finished bucket: rows with different ids, in their order."""

    number: int
    path: Path
    rows: int
    exact: StageTally
    signatures: SignatureFile | None
    shingle_seconds: float = 0.0


def count_buckets(parts: Sequence[Part]) -> int:
    """Return how many buckets hold the parts' rows."""
    size = sum(part.text_bytes + part.rows * _ROW_COST_BYTES for part in parts)
    return max(1, -(-size // BUCKET_BYTES))


def make_bucket(task: BucketTask) -> Bucket:
    """Make the bucket, or return the one that an earlier run finished."""
    marker = task.path.with_suffix(".json")
    if (done := read_json(marker)) is not None:
        return _revive(done, task)
    table = _gather(task)
    tally = StageTally("exact_dedup", rows_in=table.num_rows)
    if task.spec.exact_dedup.enabled and table.num_rows:
        begun = time.perf_counter()
        table = _drop_equal(task.layout, table, tally)
        tally.seconds = time.perf_counter() - begun
    unfinished = task.path.with_name(task.path.name + ".part")
    pq.write_table(table, unfinished, row_group_size=_ROW_GROUP, compression="zstd", compression_level=1)
    publish_file(unfinished, task.path)
    bucket = Bucket(task.number, task.path, table.num_rows, tally, None)
    if task.compare_at is not None:
        begun = time.perf_counter()
        texts = joined_texts(task.layout, table)
        bucket.signatures = write_signatures(
            texts, task.spec.near_dedup, task.compare_at, task.path.with_suffix("")
        )
        bucket.shingle_seconds = time.perf_counter() - begun
    write_json(marker, _freeze(bucket))
    return bucket


def bounds_of(number: int, count: int) -> tuple[int, int]:
    """Return the first prefix of a bucket, and the first that is no longer in it."""
    return (number << 32) // count + bool((number << 32) % count), -(-((number + 1) << 32) // count)


def _gather(task: BucketTask) -> pa.Table:
    low, high = bounds_of(task.number, task.count)
    limits = [(PREFIX_COLUMN, ">=", low), (PREFIX_COLUMN, "<", high)]
    tables = [pq.read_table(path, filters=limits) for path in task.parts]
    return pa.concat_tables(tables).sort_by(_ORDER).combine_chunks()


def _drop_equal(layout: Layout, table: pa.Table, tally: StageTally) -> pa.Table:
    ids = pl.Series(table.column(ID_COLUMN))
    repeats: NDArray[np.bool_] = (ids == ids.shift(1)).fill_null(False).to_numpy()
    tally.rows_dropped = int(repeats.sum())
    if not tally.rows_dropped:
        return table
    tally.reasons["equal to another row"] = tally.rows_dropped
    gone = table.filter(pa.array(repeats))
    tally.examples = examples_of(layout, gone, ["equal to another row"] * 5)
    return table.filter(pa.array(~repeats))


def _freeze(bucket: Bucket) -> dict[str, Any]:
    frozen = asdict(bucket)
    del frozen["path"]
    if bucket.signatures is not None:
        frozen["signatures"] = bucket.signatures.freeze()
    return frozen


def _revive(done: dict[str, Any], task: BucketTask) -> Bucket:
    signatures = done["signatures"]
    return Bucket(
        number=done["number"],
        path=task.path,
        rows=done["rows"],
        exact=revive_tally(done["exact"]),
        signatures=None if signatures is None else SignatureFile.revive(signatures),
        shingle_seconds=done["shingle_seconds"],
    )
