"""The records of finished shards, on the disk: what an attempt that goes on finds there.

A cell's shards are cut at fixed places, and a shard's records depend on nothing but the cell. So whichever
attempt writes one writes the same, and it is never wrong to take one that is whole.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.kit.canonical import canonical_json, digest_bytes
from steelyard.runtime.files import FILE_MODE, sync_directory
from steelyard.trainers.evaluate_workload import Record

SHARD_SAMPLES = 32


@dataclass(frozen=True)
class Shard:
    """Samples that are measured between two looks at whether to stop."""

    number: int
    places: range
    sample_ids: tuple[str, ...]


@dataclass(frozen=True)
class FinishedShard:
    """Records in the order of the shard's samples, and how long they took."""

    records: list[Record]
    seconds: float


def cut_shards(sample_ids: Sequence[str]) -> Iterator[Shard]:
    """Cut samples into shards."""
    for number, first in enumerate(range(0, len(sample_ids), SHARD_SAMPLES)):
        places = range(first, min(first + SHARD_SAMPLES, len(sample_ids)))
        yield Shard(number, places, tuple(sample_ids[place] for place in places))


class ShardFolder:
    """The shards of one cell. Two attempts may write at once: each file appears whole, by one rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, shard: Shard) -> FinishedShard | None:
        """Return a finished shard; None where it isn't there, isn't whole, or is of other samples."""
        try:
            head, _, body = self._path(shard).read_bytes().partition(b"\n")
            if head.decode() != digest_bytes(body):
                return None
            value: dict[str, Any] = json.loads(body)
        except (OSError, ValueError):
            return None
        records = [Record(**each) for each in value["records"]]
        if tuple(each.sample_id for each in records) != shard.sample_ids:
            return None
        return FinishedShard(records, value["seconds"])

    def write(self, shard: Shard, finished: FinishedShard) -> None:
        """Store a shard."""
        self._folder.mkdir(parents=True, exist_ok=True)
        value = {"records": [each.to_json() for each in finished.records], "seconds": finished.seconds}
        body = canonical_json(value)
        _replace(self._path(shard), digest_bytes(body).encode() + b"\n" + body)

    def _path(self, shard: Shard) -> Path:
        return self._folder / f"shard-{shard.number:05}.json"


def _replace(path: Path, data: bytes) -> None:
    # The process's id in the name: an old attempt that is not gone yet may write the same shard.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)
