# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Last pass: the rows that stay, as Parquet shards, in the store under their own digests."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steelyard.datasets.columns import ID_COLUMN, Layout
from steelyard.datasets.holdout import LEAK_REASON, NEAR_REASON
from steelyard.datasets.measures import Measures, measure
from steelyard.datasets.stages import Example, examples_of
from steelyard.datasets.store import BlobStore
from steelyard.datasets.work import read_json, write_json
from steelyard.specs.datasets import DatasetSpec, ShardEntry, SplitName

SPLITS: tuple[SplitName, ...] = ("train", "validation")
_ROW_GROUP = 8192


@dataclass(frozen=True)
class ShardTask:
    """What one worker needs to finish one bucket."""

    number: int
    bucket: Path
    decisions: Path
    """npy, (3, rows): dropped, leaking, validation."""
    layout: Layout
    spec: DatasetSpec
    store_root: Path
    folder: Path
    tokenizer: Path | None = None


@dataclass
class Shards:
    """What became of one bucket."""

    entries: list[ShardEntry]
    near_examples: list[Example] = field(default_factory=list[Example])
    leak_examples: list[Example] = field(default_factory=list[Example])
    measures: dict[SplitName, Measures] = field(default_factory=dict[SplitName, Measures])
    samples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def make_shards(task: ShardTask) -> Shards:
    """Write a bucket's shards into the store, or return what an earlier run finished."""
    marker = task.folder / f"shards-{task.number:05d}.json"
    if (done := read_json(marker)) is not None:
        return _revive(done)
    table = pq.read_table(task.bucket).combine_chunks()
    dropped, leaking, validation = np.load(task.decisions)
    shards = Shards([])
    shards.near_examples = _examples(task.layout, table, dropped, NEAR_REASON)
    shards.leak_examples = _examples(task.layout, table, leaking, LEAK_REASON)
    kept = ~dropped & ~leaking
    masks: dict[SplitName, NDArray[np.bool_]] = {"train": kept & ~validation, "validation": kept & validation}
    for split, mask in masks.items():
        _add_split(task, table.filter(pa.array(mask)), split, shards)
    write_json(marker, _freeze(shards))
    return shards


def content_digest(table: pa.Table) -> str:
    """Return the sha256 over the rows' ids in order."""
    state = hashlib.sha256()
    for chunk in table.column(ID_COLUMN).to_pylist():
        state.update(chunk)
    return f"sha256:{state.hexdigest()}"


def _examples(layout: Layout, table: pa.Table, mask: NDArray[np.bool_], reason: str) -> list[Example]:
    return examples_of(layout, table.filter(pa.array(mask)), [reason] * 5)


def _add_split(task: ShardTask, table: pa.Table, split: SplitName, shards: Shards) -> None:
    if not table.num_rows:
        return
    rows = table.select([*task.layout.kinds, ID_COLUMN])
    part = task.folder / f"shard-{task.number:05d}-{split}.parquet"
    pq.write_table(rows, part, row_group_size=_ROW_GROUP, compression="zstd", compression_level=3)
    digest = BlobStore.at(task.store_root).put_file(part)
    entry = ShardEntry(
        split=split,
        rows=rows.num_rows,
        size_bytes=part.stat().st_size,
        digest=digest,
        content_digest=content_digest(rows),
    )
    part.unlink()
    shards.entries.append(entry)
    shards.measures[split] = measure(task.layout, table, task.tokenizer)


def _freeze(shards: Shards) -> dict[str, Any]:
    return {
        "entries": [entry.model_dump() for entry in shards.entries],
        "near_examples": [asdict(example) for example in shards.near_examples],
        "leak_examples": [asdict(example) for example in shards.leak_examples],
        "measures": {split: found.freeze() for split, found in shards.measures.items()},
    }


def _revive(done: dict[str, Any]) -> Shards:
    return Shards(
        entries=[ShardEntry.model_validate(entry) for entry in done["entries"]],
        near_examples=[Example(**example) for example in done["near_examples"]],
        leak_examples=[Example(**example) for example in done["leak_examples"]],
        measures={split: Measures.revive(found) for split, found in done["measures"].items()},
    )
