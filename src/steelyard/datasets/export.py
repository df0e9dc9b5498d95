# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Rows of a version, back out: as JSON Lines, or the first few."""

import json
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from steelyard.datasets.build import shards_of
from steelyard.datasets.columns import Layout, Row, rows_of
from steelyard.datasets.shards import SPLITS
from steelyard.datasets.store import BlobStore
from steelyard.specs.datasets import SplitName, VersionManifest


def layout_of_version(manifest: VersionManifest, schema: pa.Schema) -> Layout:
    """Return the layout of a version, by one of its shards."""
    plain = Layout(manifest.format, False)
    return Layout(manifest.format, pa.types.is_list(schema.field(plain.texts[-1]).type))


def rows_of_version(manifest: VersionManifest, split: SplitName | None, store: BlobStore) -> Iterator[Row]:
    """Yield the rows of one split, or of all, in the version's order, in TRL's columns."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in SPLITS if split is None else (split,):
            for shard in shards_of(manifest, name):
                path = store.fetch(shard.digest, Path(scratch))
                yield from _rows(manifest, path)


def export_jsonl(manifest: VersionManifest, split: SplitName | None, out: Path, *, store_root: Path) -> int:
    """Write the rows of a split (None: all) as JSON Lines, whole or not at all; return how many.

    Rows come in the version's order, so equal versions give equal files.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    count = 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in rows_of_version(manifest, split, BlobStore.at(store_root)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return count


def head(
    manifest: VersionManifest, count: int, *, store_root: Path, split: SplitName | None = None
) -> list[Row]:
    """Return the first rows."""
    return list(islice(rows_of_version(manifest, split, BlobStore.at(store_root)), count))


def _rows(manifest: VersionManifest, path: Path) -> Iterator[Row]:
    file = pq.ParquetFile(path)
    layout = layout_of_version(manifest, file.schema_arrow)
    for batch in file.iter_batches(batch_size=1024, columns=list(layout.kinds)):
        yield from rows_of(layout, pa.Table.from_batches([batch]))
