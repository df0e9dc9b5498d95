"""Where a job's files are. Every attempt writes below its own epoch, so two can't touch one file."""

import re
from dataclasses import dataclass
from pathlib import Path

from steelyard.specs.manifest import MANIFEST_NAME

PARTIAL_SUFFIX = ".partial"
_EPOCH = re.compile(r"^e(\d{5,})$")
_STEP = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True, order=True)
class CheckpointFolder:
    """A folder that has a manifest. Order is age: a later epoch is newer, whatever its step."""

    epoch: int
    step: int
    path: Path


def checkpoints_dir(job_dir: Path) -> Path:
    """The folder of all checkpoints of a job."""
    return job_dir / "checkpoints"


def checkpoint_dir(job_dir: Path, epoch: int, step: int) -> Path:
    """The folder of one checkpoint."""
    return checkpoints_dir(job_dir) / f"e{epoch:05d}" / f"step-{step:08d}"


def model_dir(job_dir: Path, epoch: int) -> Path:
    """The folder of the model that the attempt with this epoch finishes."""
    return job_dir / "models" / f"e{epoch:05d}"


def partial_dir(folder: Path) -> Path:
    """The name that `folder` has until it is whole."""
    return folder.with_name(folder.name + PARTIAL_SUFFIX)


def list_checkpoints(job_dir: Path) -> list[CheckpointFolder]:
    """List the checkpoints that have a manifest, newest first. Says nothing of their health."""
    found: list[CheckpointFolder] = []
    for manifest in checkpoints_dir(job_dir).glob(f"*/*/{MANIFEST_NAME}"):
        epoch = _EPOCH.match(manifest.parent.parent.name)
        step = _STEP.match(manifest.parent.name)
        if epoch and step:
            found.append(CheckpointFolder(int(epoch[1]), int(step[1]), manifest.parent))
    return sorted(found, reverse=True)
