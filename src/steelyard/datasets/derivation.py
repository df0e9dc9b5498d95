# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Children of versions: rows appended, filtered by a condition, or mixed by weights.

A filter or mix keeps every row in the split that it was in, so nothing held out comes into training. Rows
are taken by their ids alone, so the same parents always give the same child. Evaluation sets that came
after the parents are minded too: rows that overlap with one are dropped on the way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steelyard.datasets.build import ENGINE, seal, shards_of
from steelyard.datasets.columns import ID_COLUMN, Layout
from steelyard.datasets.decontamination import Decontamination, EvaluationIndex, digests_of_sets
from steelyard.datasets.export import layout_of_version
from steelyard.datasets.ingest import Request
from steelyard.datasets.measures import Measures, measure
from steelyard.datasets.shards import SPLITS, content_digest
from steelyard.datasets.sources import Source
from steelyard.datasets.stages import StageTally
from steelyard.datasets.store import BlobStore
from steelyard.datasets.texts import joined_texts, turns_of
from steelyard.kit.errors import InvalidRequest
from steelyard.specs.datasets import ParentEntry, ShardEntry, SplitName, VersionManifest

EvaluationSets = Mapping[str, Sequence[str]]
_NO_SETS: EvaluationSets = {}
_UNMET = "the condition doesn't hold"
_BEYOND_SHARE = "beyond its version's share"
_REPEATED = "in another version too"


@dataclass(frozen=True)
class Parent:
    """A version that a child is made from, and its share in a mix."""

    ref: str
    manifest: VersionManifest
    weight: float = 1.0


@dataclass(frozen=True)
class Derived:
    """A child before it has a number, with what its report shows beside it."""

    manifest: VersionManifest
    measures: dict[SplitName, Measures]


def appending(request: Request, parent: Parent) -> Request:
    """Return the request that ingests the parent's rows and the new files' together, with one spec.

    Build it with `build_version`. Its stages see all rows, so new rows that repeat old ones are dropped.
    """
    store = BlobStore.at(request.store_root)
    request.work_root.mkdir(parents=True, exist_ok=True)
    shards = [
        Source(f"{parent.ref}/{number}", store.fetch(shard.digest, request.work_root), "parquet", None)
        for number, shard in enumerate(parent.manifest.shards)
    ]
    entry = ParentEntry(ref=parent.ref, digest=parent.manifest.digest, how="append")
    return replace(request, shards=shards, parents=[*request.parents, entry])


def filter_version(
    parent: Parent, where: str, *, store_root: Path, evaluation_sets: EvaluationSets = _NO_SETS
) -> Derived:
    """Keep the rows for which a condition holds; their shards go into the store.

    Args:
        where: an SQL expression over the columns of text, and `all_text`, `chars`, `words` and `turns`.
        evaluation_sets: texts by the set's name; rows that overlap with one are dropped.

    Raises:
        InvalidRequest: the expression isn't understood, or holds for no row.
    """
    store = BlobStore.at(store_root)
    making = _Making("filter", [parent], store, evaluation_sets)
    with TemporaryDirectory() as scratch:
        for shard in parent.manifest.shards:
            table = pq.read_table(store.fetch(shard.digest, Path(scratch)))
            kept = table.filter(pa.array(_holds(parent.manifest, table, where)))
            making.drop(_UNMET, table.num_rows - kept.num_rows)
            making.add(kept, shard.split, Path(scratch))
    entry = ParentEntry(ref=parent.ref, digest=parent.manifest.digest, how="filter", where=where)
    return making.child([entry])


def mix_versions(
    parents: Sequence[Parent],
    *,
    store_root: Path,
    rows: int | None = None,
    evaluation_sets: EvaluationSets = _NO_SETS,
) -> Derived:
    """Take rows of each parent in proportion to the weights: as many as there are without repeating any.

    Args:
        rows: at most so many, over the splits as the parents have them.
        evaluation_sets: texts by the set's name; rows that overlap with one are dropped.

    Raises:
        InvalidRequest: the parents have different columns, or a weight isn't above 0.
    """
    if len(parents) < 2 or any(parent.weight <= 0 for parent in parents):
        raise InvalidRequest("a mix needs two versions or more, each with a weight above 0", param="weights")
    first = parents[0].manifest
    if any((p.manifest.format, p.manifest.columns) != (first.format, first.columns) for p in parents):
        raise InvalidRequest("only versions with the same format and columns can be mixed", param="parents")
    store = BlobStore.at(store_root)
    making = _Making("mix", parents, store, evaluation_sets)
    with TemporaryDirectory() as scratch:
        for split in SPLITS:
            rows_in = sum(shard.rows for parent in parents for shard in shards_of(parent.manifest, split))
            for table in _mix_split(parents, split, rows, store, Path(scratch)):
                once = _once(table)
                making.drop(_REPEATED, table.num_rows - once.num_rows)
                rows_in -= table.num_rows
                making.add(once, split, Path(scratch))
            making.drop(_BEYOND_SHARE, rows_in)
    links = [ParentEntry(ref=p.ref, digest=p.manifest.digest, how="mix", weight=p.weight) for p in parents]
    return making.child(links)


class _Making:
    """A child that grows table by table: cleaned of evaluation sets, counted, measured and stored."""

    def __init__(self, how: str, parents: Sequence[Parent], store: BlobStore, sets: EvaluationSets) -> None:
        self._first = parents[0].manifest
        self._store = store
        self._sets = digests_of_sets(sets)
        self._taken = StageTally(how, rows_in=sum(parent.manifest.rows_kept for parent in parents))
        self._clean = StageTally(Decontamination.name)
        self._stage: Decontamination | None = None
        self._entries: list[ShardEntry] = []
        self._measures: dict[SplitName, Measures] = {}
        if any(sets.values()):
            block = self._first.spec.decontamination
            self._stage = Decontamination(block, EvaluationIndex.build(sets, block.ngram_words))

    def drop(self, reason: str, rows: int) -> None:
        """Count rows that weren't taken."""
        _count(self._taken, reason, rows)

    def add(self, table: pa.Table, split: SplitName, scratch: Path) -> None:
        """Take a table of rows."""
        if not table.num_rows:
            return
        layout = layout_of_version(self._first, table.schema)
        self._clean.rows_in += table.num_rows
        if self._stage is not None and (reasons := self._stage.run(layout, table).drop) is not None:
            for reason, count in reasons.drop_nulls().value_counts().iter_rows():
                _count(self._clean, reason, count)
            table = table.filter(reasons.is_null().to_arrow().cast(pa.bool_()))
        self._entries.extend(_store(table, split, self._store, scratch))
        self._measures.setdefault(split, Measures()).merge(measure(layout, table, None))

    def child(self, links: list[ParentEntry]) -> Derived:
        """Return the version.

        Raises:
            InvalidRequest: it has no row.
        """
        if not self._entries:
            raise InvalidRequest(_nothing_left(self._clean), param="where")
        tallies = [self._taken, self._clean] if self._sets else [self._taken]
        train = sum(entry.rows for entry in self._entries if entry.split == "train")
        kept = sum(entry.rows for entry in self._entries)
        manifest = self._first.model_copy(
            update={
                "engine": ENGINE,
                "parents": links,
                "origins": [],
                "left_out": {},
                "evaluation_sets": self._sets,
                "rows_in": self._taken.rows_in,
                "rows_kept": kept,
                "rows_train": train,
                "rows_validation": kept - train,
                "stages": [tally.report() for tally in tallies],
                "shards": sorted(self._entries, key=lambda entry: SPLITS.index(entry.split)),
            }
        )
        return Derived(seal(manifest), self._measures)


def _count(tally: StageTally, reason: str, rows: int) -> None:
    if rows:
        tally.rows_dropped += rows
        tally.reasons[reason] = tally.reasons.get(reason, 0) + rows


def _nothing_left(clean: StageTally) -> str:
    if clean.rows_dropped:
        return f"no row is left: the {clean.rows_dropped} that were taken overlap with evaluation suites"
    return "no row is left; loosen the condition"


def _mix_split(
    parents: Sequence[Parent], split: SplitName, rows: int | None, store: BlobStore, scratch: Path
) -> Iterator[pa.Table]:
    counts = [sum(shard.rows for shard in shards_of(parent.manifest, split)) for parent in parents]
    scale = min(count / parent.weight for count, parent in zip(counts, parents, strict=True))
    if rows is not None:
        share = sum(counts) / sum(parent.manifest.rows_kept for parent in parents)
        scale = min(scale, rows * share / sum(parent.weight for parent in parents))
    limits = [_limit(parent, split, int(scale * parent.weight), store, scratch) for parent in parents]
    pieces = max(len(shards_of(parent.manifest, split)) for parent in parents)
    for number in range(pieces):
        tables = [
            _taken(parent, split, limit, number, pieces, store, scratch)
            for parent, limit in zip(parents, limits, strict=True)
        ]
        yield pa.concat_tables(tables)


def _once(table: pa.Table) -> pa.Table:
    """Return each row once, ordered by id."""
    ordered = table.sort_by([(ID_COLUMN, "ascending")]).combine_chunks()
    ids = pl.Series(ordered.column(ID_COLUMN))
    repeats = (ids == ids.shift(1)).fill_null(False)
    return ordered.filter((~repeats).to_arrow().cast(pa.bool_()))


def _limit(parent: Parent, split: SplitName, count: int, store: BlobStore, scratch: Path) -> int:
    """Return the bound of the ranks of the `count` rows that come first by rank."""
    ranks = [
        _ranks(pq.read_table(store.fetch(shard.digest, scratch), columns=[ID_COLUMN]))
        for shard in shards_of(parent.manifest, split)
    ]
    if not count:
        return 0
    ordered = np.sort(np.concatenate(ranks))
    return int(ordered[count - 1]) + 1


def _taken(
    parent: Parent, split: SplitName, limit: int, number: int, pieces: int, store: BlobStore, scratch: Path
) -> pa.Table:
    """Return the rows of one range of ids. Shards are ordered by id, so most of each isn't read."""
    low, high = (number << 32) // pieces, ((number + 1) << 32) // pieces
    bounds = [(ID_COLUMN, ">=", low.to_bytes(4))]
    if high < 1 << 32:
        bounds.append((ID_COLUMN, "<", high.to_bytes(4)))
    shards = shards_of(parent.manifest, split) or parent.manifest.shards[:1]
    tables = [pq.read_table(store.fetch(shard.digest, scratch), filters=bounds) for shard in shards]
    return pa.concat_tables([table.filter(pa.array(_ranks(table) < limit)) for table in tables])


def _ranks(table: pa.Table) -> NDArray[np.uint64]:
    """The last bytes of an id say nothing about the first, by which rows are ordered."""
    return _numbers(table, 24, 8, pl.UInt64())


def _numbers(table: pa.Table, start: int, size: int, dtype: pl.DataType) -> NDArray[np.uint64]:
    ids = pl.Series(table.column(ID_COLUMN))
    return (
        ids.bin.slice(start, size).bin.reinterpret(dtype=dtype, endianness="big").to_numpy().astype(np.uint64)
    )


def _holds(manifest: VersionManifest, table: pa.Table, where: str) -> NDArray[np.bool_]:
    layout = layout_of_version(manifest, table.schema)
    try:
        kept = _facts(layout, table).select(pl.sql_expr(where).alias("kept"))["kept"]
    except pl.exceptions.PolarsError as error:
        raise InvalidRequest(f"the condition isn't understood: {error}", param="where") from error
    if kept.dtype != pl.Boolean or len(kept) != table.num_rows:
        raise InvalidRequest("the condition must be true or false for each row", param="where")
    return kept.fill_null(False).to_numpy()


def _facts(layout: Layout, table: pa.Table) -> pl.DataFrame:
    texts = joined_texts(layout, table)
    columns = {name: joined_texts(layout, table, (name,)) for name in layout.texts}
    measured = {
        "all_text": texts,
        "chars": texts.str.len_chars(),
        "words": texts.str.count_matches(r"\S+"),
        "turns": turns_of(layout, table),
    }
    return pl.DataFrame({**columns, **measured})


def _store(table: pa.Table, split: SplitName, store: BlobStore, scratch: Path) -> list[ShardEntry]:
    if not table.num_rows:
        return []
    part = scratch / "child.parquet"
    pq.write_table(table, part, row_group_size=8192, compression="zstd", compression_level=3)
    return [
        ShardEntry(
            split=split,
            rows=table.num_rows,
            digest=store.put_file(part),
            size_bytes=part.stat().st_size,
            content_digest=content_digest(table),
        )
    ]
