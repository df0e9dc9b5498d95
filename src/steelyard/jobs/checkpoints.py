"""Which checkpoint an attempt starts from: the newest that is whole, byte for byte."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from steelyard.runtime.layout import checkpoints_dir
from steelyard.runtime.manifests import read_manifest, total_size
from steelyard.specs.manifest import Manifest
from steelyard.specs.reports import CheckpointReport
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.tables import CheckpointRow

SWEPT = "swept"
"""Status of a row whose files are gone from the bucket too; people see `deleted`."""


@dataclass(frozen=True)
class Verified:
    """The checkpoint to start from, None where there is none, and the damaged ones that were passed over."""

    chosen: CheckpointRow | None
    damaged: tuple[tuple[CheckpointRow, str], ...]


async def choose_checkpoint(
    objects: ObjectFolder, job_dir: Path, rows: Sequence[CheckpointRow], named: str | None
) -> Verified:
    """Return the first of `rows` (newest first) whose files are all there and unchanged.

    What this node lacks or has damaged is fetched from the bucket, where there is one.

    Args:
        named: id of a checkpoint that a person asked for; it alone is looked at first.

    Hashing happens in a thread; it takes about a second per gigabyte.

    Raises:
        BucketUnavailable, StorageFull: it can't be fetched now, which says nothing of its health.
    """
    candidates = [row for row in rows if row.status == "available"]
    if named is not None:
        candidates.sort(key=lambda row: row.id != named)
    damaged: list[tuple[CheckpointRow, str]] = []
    for row in candidates:
        damage = await asyncio.to_thread(objects.pull_folder, job_dir / row.path, row.manifest_digest)
        if damage is None:
            return Verified(row, tuple(damaged))
        damaged.append((row, damage.message))
    return Verified(None, tuple(damaged))


def complete_checkpoints(job_dir: Path, epoch: int) -> list[CheckpointReport]:
    """Return the finished checkpoints in an attempt's folder, published or not, oldest first.

    Only to be asked for an attempt whose processes have gone for certain.
    """
    found: list[CheckpointReport] = []
    for path in sorted((checkpoints_dir(job_dir) / f"e{epoch:05d}").glob("step-????????")):
        manifest = _read(path)
        if manifest is None or manifest.epoch != epoch:
            continue
        found.append(report_of(job_dir, path, manifest))
    return found


def report_of(job_dir: Path, folder: Path, manifest: Manifest) -> CheckpointReport:
    """Return a finished checkpoint as its trainer would report it."""
    return CheckpointReport(
        epoch=manifest.epoch,
        step=manifest.step,
        path=str(folder.relative_to(job_dir)),
        manifest_digest=manifest.digest(),
        size_bytes=total_size(manifest),
    )


def _read(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except (OSError, ValidationError):
        return None
