# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Versions, looked at closely: whether one is whole, and what sets two apart."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from steelyard.datasets.build import digest_of
from steelyard.datasets.columns import ID_COLUMN
from steelyard.datasets.export import layout_of_version
from steelyard.datasets.shards import content_digest
from steelyard.datasets.store import BlobStore
from steelyard.datasets.texts import digests_of, row_keys
from steelyard.specs.datasets import ShardEntry, VersionDiff, VersionManifest


def verify_version(manifest: VersionManifest, *, store_root: Path) -> list[str]:
    """Read everything again, and return what is wrong: nothing, for a whole version.

    Each shard's bytes must have its digest, each row the id that follows from its content, the ids the
    shard's content digest, and the manifest the version's digest.
    """
    faults: list[str] = []
    if digest_of(manifest) != manifest.digest:
        faults.append(f"the manifest is altered: its digest is {digest_of(manifest)}, not {manifest.digest}")
    store = BlobStore.at(store_root)
    with TemporaryDirectory() as scratch:
        for shard in manifest.shards:
            fault = store.verify(shard.digest)
            faults.extend([fault] if fault else _check_rows(manifest, shard, store, Path(scratch)))
    return faults


def diff_versions(old: VersionManifest, new: VersionManifest, *, store_root: Path) -> VersionDiff:
    """Count the rows that came, went and stayed, by content, and name the fields of the spec that differ."""
    before, after = _ids(old, store_root), _ids(new, store_root)
    shared = before.join(after, on=ID_COLUMN, how="semi").height
    return VersionDiff(
        rows_added=after.height - shared,
        rows_removed=before.height - shared,
        rows_shared=shared,
        same=old.digest == new.digest,
        spec_changes=dict(_changes(old.spec.model_dump(mode="json"), new.spec.model_dump(mode="json"))),
    )


def _check_rows(manifest: VersionManifest, shard: ShardEntry, store: BlobStore, scratch: Path) -> list[str]:
    table = pq.read_table(store.fetch(shard.digest, scratch))
    layout = layout_of_version(manifest, table.schema)
    ids = digests_of(row_keys(layout, table))
    wrong = int((ids != pl.Series(table.column(ID_COLUMN))).sum())
    if wrong:
        return [f"shard {shard.digest}: {wrong} rows don't have the ids that follow from their content"]
    if content_digest(table) != shard.content_digest or table.num_rows != shard.rows:
        return [f"shard {shard.digest}: its rows aren't those that the manifest names"]
    return []


def _ids(manifest: VersionManifest, store_root: Path) -> pl.DataFrame:
    store = BlobStore.at(store_root)
    with TemporaryDirectory() as scratch:
        tables: list[pa.Table] = [
            pq.read_table(store.fetch(shard.digest, Path(scratch)), columns=[ID_COLUMN])
            for shard in manifest.shards
        ]
    frame = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield path, [old, new]
