# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""From files to a manifest: the passes in their order, each over all cores, each resumed after a crash."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steelyard.datasets.buckets import Bucket, BucketTask, count_buckets, make_bucket
from steelyard.datasets.columns import Layout
from steelyard.datasets.decontamination import EvaluationIndex, digests_of_sets
from steelyard.datasets.holdout import Holdout, compare_at, decide
from steelyard.datasets.measures import Measures, load_tokenizer
from steelyard.datasets.parts import Part, PartTask, make_part
from steelyard.datasets.pool import Pool
from steelyard.datasets.reading import MAX_FAULTS, Plan, agree, sample
from steelyard.datasets.shards import SPLITS, Shards, ShardTask, make_shards
from steelyard.datasets.sources import Source
from steelyard.datasets.spool import Chunk, line_chunks, needs_spool, spool
from steelyard.datasets.stages import Example, StageTally
from steelyard.datasets.texts import joined_texts
from steelyard.kit.canonical import digest_file, digest_json
from steelyard.kit.errors import InvalidDataset, InvalidSpec
from steelyard.specs.datasets import (
    DatasetSpec,
    ParentEntry,
    ReadingBlock,
    ShardEntry,
    SplitName,
    StageReport,
    VersionManifest,
)

ENGINE = "2"
"""Version of the rules. It goes up whenever the same input would give other rows."""
_SAMPLE_ROWS = 20
_PARQUET_GROUP_ROWS = 100_000
_SHOWN_FAULTS = 20
_EXCERPT_CHARS = 400


@dataclass(frozen=True)
class ProgressNote:
    """How far an ingest is: pieces of work of the present pass."""

    stage: str
    done: int
    total: int
    rows: int = 0


Watch = Callable[[ProgressNote], None]


@dataclass
class Input:
    """The sources, ready to be read in chunks."""

    sources: list[Source]
    digests: list[str] = field(default_factory=list[str])
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    spools: list[Path] = field(default_factory=list[Path])
    """What is kept for another run until this one has ended."""

    @property
    def names(self) -> list[str]:
        """What messages call the files."""
        return [source.name for source in self.sources]


@dataclass
class Built:
    """A version before it has a number, with what the report shows beside it."""

    manifest: VersionManifest
    names: list[str]
    tallies: list[StageTally]
    measures: dict[SplitName, Measures]
    holdout: Holdout
    cluster_texts: list[list[str]] = field(default_factory=list[list[str]])
    """Beginnings of a few rows of each of the largest groups of near-duplicates."""
    layout: Layout | None = None


def prepare(found: Input, reading: ReadingBlock, spool_folder: Path, scratch: Path, watch: Watch) -> None:
    """Make every source readable in chunks, and digest it.

    Args:
        found: its sources; all else is filled in, as far as it comes.
        spool_folder: shared by all ingests.
        scratch: this ingest's alone, on the same disk.

    Raises:
        InvalidDataset: a file is damaged, or beyond the limits.
    """
    spool_folder.mkdir(parents=True, exist_ok=True)
    for index, source in enumerate(found.sources):
        watch(ProgressNote("prepare", index, len(found.sources)))
        if source.kind == "parquet":
            found.digests.append(digest_file(source.path))
            found.chunks.extend(_parquet_chunks(index, source))
            continue
        path, kind = source.path, "lines"
        if needs_spool(source):
            name = digest_file(source.path).removeprefix("sha256:")
            shared, path = spool_folder / f"{name}.{source.kind}", scratch / f"spool-{index:06d}"
            found.spools.append(shared)
            kind = spool(source, reading, shared, path)
        digest, chunks = line_chunks(index, path, kind)
        found.digests.append(digest)
        found.chunks.extend(chunks)


def build(
    input_: Input,
    spec: DatasetSpec,
    *,
    folder: Path,
    store_root: Path,
    pool: Pool,
    evaluation_sets: Mapping[str, Sequence[str]],
    parents: Sequence[ParentEntry],
    tokenizer: Path | None,
    watch: Watch,
) -> Built:
    """Run all passes in the work folder and return the version; nothing refers to it yet.

    Args:
        tokenizer: where the tokenizer that the spec names lies.

    Raises:
        InvalidDataset: the rows break the schema, or mix shapes, or none is left.
        InvalidSpec: the tokenizer isn't there.
    """
    _check_tokenizer(spec, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    plan = _plan(input_, spec)
    parts = _make_parts(input_, plan, spec, folder, pool, evaluation_sets, watch)
    check_faults(parts, input_.names, spec.reading.max_bad)
    buckets = _make_buckets(parts, plan, spec, folder, pool, watch)
    watch(ProgressNote("compare", 0, 1, sum(bucket.rows for bucket in buckets)))
    holdout = decide(buckets, spec)
    shards = _make_shards(buckets, holdout, plan, spec, folder, store_root, tokenizer, pool, watch)
    tallies = _tallies(parts, buckets, holdout, shards, spec)
    entries = [entry for split in SPLITS for one in shards for entry in one.entries if entry.split == split]
    if not entries:
        raise InvalidDataset(_nothing_left(tallies))
    manifest = seal(
        VersionManifest(
            engine=ENGINE,
            format=plan.layout.format,
            columns=list(plan.layout.kinds),
            spec=spec,
            evaluation_sets=digests_of_sets(evaluation_sets) if spec.decontamination.enabled else {},
            parents=list(parents),
            origins=[name for name in input_.names if "://" in name],
            left_out=_left_out(parts),
            rows_in=sum(part.read.rows for part in parts),
            rows_kept=sum(entry.rows for entry in entries),
            rows_train=sum(entry.rows for entry in entries if entry.split == "train"),
            rows_validation=sum(entry.rows for entry in entries if entry.split == "validation"),
            stages=[tally.report() for tally in tallies],
            shards=entries,
            digest="",
        )
    )
    texts = _cluster_texts(buckets, holdout, plan.layout)
    return Built(manifest, input_.names, tallies, _measures(shards), holdout, texts, plan.layout)


def seal(manifest: VersionManifest) -> VersionManifest:
    """Return the manifest with its digest filled in."""
    return manifest.model_copy(update={"digest": digest_of(manifest)})


def digest_of(manifest: VersionManifest) -> str:
    """Recompute a manifest's digest from its fields."""
    value = manifest.model_dump(mode="json", exclude={"digest", "origins", "left_out"})
    for shard in value["shards"]:
        del shard["digest"], shard["size_bytes"]
    return digest_json(value)


def check_faults(parts: Sequence[Part], names: list[str], max_bad: float, *, so_far: bool = False) -> None:
    """Refuse input with more faulty rows than allowed.

    Args:
        so_far: more parts are to come.

    Raises:
        InvalidDataset: with the first faults, by file and line.
    """
    rows = sum(part.read.rows for part in parts)
    faulty = sum(part.read.faulty for part in parts)
    if faulty <= max_bad * rows:
        return
    faults = sorted(
        (fault for part in parts for fault in part.read.faults), key=lambda fault: (fault.file, fault.line)
    )
    shown = [fault.describe(names) for fault in faults[:_SHOWN_FAULTS]]
    more = f"\n... and {faulty - len(shown)} more" if faulty > len(shown) else ""
    raise InvalidDataset(
        f"{faulty} of {rows} rows{' read so far' if so_far else ''} break the schema"
        f" (allowed: {max_bad:.2%}); mend them, or raise"
        " reading.max_bad to drop them:\n" + "\n".join(shown) + more,
        param="reading.max_bad",
        faults=[fault.describe(names) for fault in faults[:MAX_FAULTS]],
    )


def _check_tokenizer(spec: DatasetSpec, tokenizer: Path | None) -> None:
    """Look at it before all else: hours later is too late to say that it isn't there."""
    if tokenizer is not None:
        load_tokenizer(tokenizer)
    elif spec.statistics.tokenizer is not None:
        raise InvalidSpec(
            f"the files of {spec.statistics.tokenizer!r} weren't given; nothing can be counted",
            param="statistics.tokenizer",
        )


def _plan(input_: Input, spec: DatasetSpec) -> Plan:
    first: dict[int, Chunk] = {}
    for chunk in input_.chunks:
        first.setdefault(chunk.file, chunk)
    samples = [
        value
        for chunk in first.values()
        for value in sample(chunk, input_.names[chunk.file], spec.reading, _SAMPLE_ROWS)
    ]
    source_format, layout = agree(samples, spec.format, spec.column_map)
    return Plan(source_format, layout, dict(spec.column_map), spec.reading)


def _parquet_chunks(index: int, source: Source) -> list[Chunk]:
    try:
        metadata = pq.ParquetFile(source.path).metadata
    except (pa.ArrowException, OSError) as error:
        raise InvalidDataset(f"{source.name}: not a whole Parquet file ({error}); copy it again") from error
    chunks: list[Chunk] = []
    start, row, rows = 0, 1, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= _PARQUET_GROUP_ROWS or group == metadata.num_row_groups - 1:
            chunks.append(Chunk(index, source.path, "parquet", start, group + 1, row))
            start, row, rows = group + 1, row + rows, 0
    return chunks


def _make_parts(
    input_: Input,
    plan: Plan,
    spec: DatasetSpec,
    folder: Path,
    pool: Pool,
    evaluation_sets: Mapping[str, Sequence[str]],
    watch: Watch,
) -> list[Part]:
    index = None
    if spec.decontamination.enabled and any(evaluation_sets.values()):
        index = folder / "evaluation.parquet"
        EvaluationIndex.build(evaluation_sets, spec.decontamination.ngram_words).save(index)
    tasks = [
        PartTask(f"part-{number:06d}", chunk, input_.names[chunk.file], plan, spec, index, folder)
        for number, chunk in enumerate(input_.chunks)
    ]
    seen = _Counter("clean", len(tasks), watch)

    def note(part: Part) -> None:
        seen.add(part.read.rows)
        if not spec.reading.max_bad:
            check_faults([part], input_.names, 0.0, so_far=len(tasks) > 1)

    return pool.map(make_part, tasks, note)


def _make_buckets(
    parts: Sequence[Part], plan: Plan, spec: DatasetSpec, folder: Path, pool: Pool, watch: Watch
) -> list[Bucket]:
    full = [part.path for part in parts if part.rows]
    if not full:
        return []
    count = count_buckets(parts)
    tasks = [
        BucketTask(number, count, full, plan.layout, spec, compare_at(spec), folder)
        for number in range(count)
    ]
    seen = _Counter("gather", count, watch)
    return pool.map(make_bucket, tasks, lambda bucket: seen.add(bucket.rows))


def _make_shards(
    buckets: Sequence[Bucket],
    holdout: Holdout,
    plan: Plan,
    spec: DatasetSpec,
    folder: Path,
    store_root: Path,
    tokenizer: Path | None,
    pool: Pool,
    watch: Watch,
) -> list[Shards]:
    tasks: list[ShardTask] = []
    start = 0
    for bucket in buckets:
        rows = slice(start, start + bucket.rows)
        decisions = folder / f"decisions-{bucket.number:05d}.npy"
        np.save(decisions, np.stack([holdout.dropped[rows], holdout.leaking[rows], holdout.validation[rows]]))
        tasks.append(
            ShardTask(bucket.number, bucket.path, decisions, plan.layout, spec, store_root, folder, tokenizer)
        )
        start += bucket.rows
    seen = _Counter("write", len(tasks), watch)
    return pool.map(make_shards, tasks, lambda one: seen.add(sum(entry.rows for entry in one.entries)))


class _Counter:
    def __init__(self, stage: str, total: int, watch: Watch) -> None:
        self._stage, self._total, self._watch = stage, total, watch
        self._done = self._rows = 0
        watch(ProgressNote(stage, 0, total))

    def add(self, rows: int) -> None:
        self._done += 1
        self._rows += rows
        self._watch(ProgressNote(self._stage, self._done, self._total, self._rows))


def _tallies(
    parts: Sequence[Part],
    buckets: Sequence[Bucket],
    holdout: Holdout,
    shards: Sequence[Shards],
    spec: DatasetSpec,
) -> list[StageTally]:
    read = StageTally("validate", rows_in=sum(part.read.rows for part in parts))
    read.rows_dropped = sum(part.read.faulty for part in parts)
    if read.rows_dropped:
        read.reasons["breaks the schema"] = read.rows_dropped
    for part in parts:
        read.bytes += part.read.bytes
        for fault in part.read.faults:
            read.examples.append(Example(fault.file, fault.line, fault.reason, fault.excerpt))
    read.add(StageTally("validate"))
    tallies = [read, *_summed([part.stages for part in parts])]
    if spec.exact_dedup.enabled:
        tallies.extend(_summed([[bucket.exact] for bucket in buckets]))
    for one in shards:
        holdout.near.add(StageTally("near_dedup", examples=one.near_examples))
        holdout.leak.add(StageTally("split_leak", examples=one.leak_examples))
    holdout.near.seconds += sum(bucket.shingle_seconds for bucket in buckets)
    if spec.near_dedup.enabled:
        tallies.append(holdout.near)
    if spec.split.leak_threshold is not None and spec.split.validation_fraction:
        tallies.append(holdout.leak)
    return tallies


def _left_out(parts: Sequence[Part]) -> dict[str, int]:
    left_out: Counter[str] = Counter()
    for part in parts:
        left_out.update(part.read.left_out)
    return dict(sorted(left_out.items()))


def _summed(tallies: Sequence[Sequence[StageTally]]) -> list[StageTally]:
    if not tallies:
        return []
    sums = [StageTally(first.name) for first in tallies[0]]
    for some in tallies:
        for total, one in zip(sums, some, strict=True):
            total.add(one)
    return sums


def _measures(shards: Sequence[Shards]) -> dict[SplitName, Measures]:
    sums: dict[SplitName, Measures] = {}
    for one in shards:
        for split, found in one.measures.items():
            sums.setdefault(split, Measures()).merge(found)
    return sums


def _cluster_texts(buckets: Sequence[Bucket], holdout: Holdout, layout: Layout) -> list[list[str]]:
    starts = np.cumsum([0, *(bucket.rows for bucket in buckets)])
    return [[_text_at(buckets, starts, row, layout) for row in rows] for rows in holdout.clusters]


def _text_at(buckets: Sequence[Bucket], starts: "NDArray[np.int64]", row: int, layout: Layout) -> str:
    number = int(np.searchsorted(starts, row, side="right")) - 1
    file = pq.ParquetFile(buckets[number].path)
    group, place = divmod(row - int(starts[number]), file.metadata.row_group(0).num_rows)
    table = file.read_row_group(group, columns=list(layout.kinds)).slice(place, 1)
    return str(joined_texts(layout, table)[0])[:_EXCERPT_CHARS]


def _nothing_left(tallies: Sequence[StageTally]) -> str:
    dropped = ", ".join(
        f"{tally.name} dropped {tally.rows_dropped}" for tally in tallies if tally.rows_dropped
    )
    return f"no row is left ({dropped or 'the files hold none'}); loosen the spec's filters"


def report_stages(tallies: Sequence[StageTally]) -> list[StageReport]:
    """Return the stages' reports, in order."""
    return [tally.report() for tally in tallies]


def shards_of(manifest: VersionManifest, split: SplitName) -> list[ShardEntry]:
    """Return the shards of one split, in their order."""
    return [shard for shard in manifest.shards if shard.split == split]
