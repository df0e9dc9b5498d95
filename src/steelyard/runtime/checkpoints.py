"""Saving and finding checkpoints: write aside, seal with a manifest, rename, publish, rotate.

A folder under its final name is whole. Which of them the platform knows is the api's affair; a rotation
follows an accepted publication only, so an attempt that was replaced never deletes anything.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steelyard.runtime.channel import Channel
from steelyard.runtime.failures import Fenced, RunFailure
from steelyard.runtime.files import replace_folder
from steelyard.runtime.layout import (
    PARTIAL_SUFFIX,
    checkpoint_dir,
    checkpoints_dir,
    list_checkpoints,
    model_dir,
    partial_dir,
)
from steelyard.runtime.manifests import total_size, verify_manifest, write_manifest
from steelyard.runtime.preempt import barrier
from steelyard.runtime.rank import Rank
from steelyard.specs.blocks import CheckpointBlock
from steelyard.specs.manifest import Manifest
from steelyard.specs.outcome import ExitCode
from steelyard.specs.reports import CheckpointReport
from steelyard.specs.states import Reason

Writer = Callable[[Path], None]
"""Fills a folder. Called on every rank with the same folder; what only one should write, rank 0 writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Author:
    """Who writes: goes into every manifest."""

    job_id: str
    attempt_id: str
    epoch: int


class Checkpoints:
    """A job's checkpoints as one attempt sees them. Used by one thread of each rank."""

    def __init__(
        self,
        job_dir: Path,
        author: Author,
        rules: CheckpointBlock,
        channel: Channel,
        rank: Rank,
        resume_from: Path | None,
    ) -> None:
        self._job_dir = job_dir
        self._author = author
        self._rules = rules
        self._channel = channel
        self._rank = rank
        self._resume_from = resume_from
        self._published: set[Path] = set()

    def latest(self) -> Path | None:
        """Return the verified checkpoint to go on from, or None to begin at the beginning.

        Raises:
            RunFailure: it is damaged (transient: the platform then takes the one before).
        """
        if self._resume_from is None:
            return None
        damage = verify_manifest(self._resume_from)
        if damage is not None:
            raise RunFailure(
                Reason.TRANSIENT_FAILURE,
                ExitCode.TRANSIENT,
                f"The checkpoint to resume from is damaged: {damage.message}. Retry from the one before.",
            )
        return self._resume_from

    def due(self, step: int) -> bool:
        """Whether the regular interval ends at `step`."""
        return step % self._rules.save_steps == 0

    def save(self, step: int, writer: Writer) -> Path:
        """Write the checkpoint of `step` and publish it; return its folder. All ranks call it together.

        Dying part-way leaves a `.partial` folder that nobody reads. When this returns, the checkpoint is
        whole and durable on the disk; the platform hears of it in the background.

        Raises:
            Fenced: a newer attempt has taken over; nothing was put in place.
            OSError: the disk is full.
        """
        target = checkpoint_dir(self._job_dir, self._author.epoch, step)
        manifest = self._write(target, "checkpoint", step, writer)
        if manifest is not None:
            self._channel.publish(
                CheckpointReport(
                    epoch=self._author.epoch,
                    step=step,
                    path=str(target.relative_to(self._job_dir)),
                    manifest_digest=manifest.digest(),
                    size_bytes=total_size(manifest),
                ),
                self._after_publication,
            )
        return target

    def save_model(self, step: int, writer: Writer) -> Path:
        """Write the finished model to `<job_dir>/models/e<epoch>`, in place of an earlier one there."""
        target = model_dir(self._job_dir, self._author.epoch)
        self._write(target, "model", step, writer)
        return target

    def _write(
        self, target: Path, kind: Literal["checkpoint", "model"], step: int, writer: Writer
    ) -> Manifest | None:
        partial = partial_dir(target)
        if self._channel.is_fenced:
            raise Fenced
        if self._rank.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        barrier()
        writer(partial)
        # Files of the other ranks must be there before the manifest names them.
        barrier()
        manifest = self._seal(partial, target, kind, step) if self._rank.is_main else None
        barrier()
        return manifest

    def _seal(self, partial: Path, target: Path, kind: Literal["checkpoint", "model"], step: int) -> Manifest:
        manifest = write_manifest(
            partial,
            kind=kind,
            job_id=self._author.job_id,
            attempt_id=self._author.attempt_id,
            epoch=self._author.epoch,
            step=step,
        )
        if self._channel.is_fenced:
            raise Fenced
        replace_folder(partial, target)
        return manifest

    def _after_publication(self, report: CheckpointReport) -> None:
        self._published.add(self._job_dir / report.path)
        for folder in self._superseded():
            # Renamed first: a folder that is half deleted must not look whole.
            doomed = partial_dir(folder)
            with contextlib.suppress(OSError):
                folder.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
        self._remove_leftovers()

    def _superseded(self) -> list[Path]:
        """Folders past `save_total_limit`, newest first, among those that are surely published or old."""
        kept = [
            each
            for each in list_checkpoints(self._job_dir)
            if each.epoch < self._author.epoch or each.path in self._published
        ]
        return [each.path for each in kept[self._rules.save_total_limit :]]

    def _remove_leftovers(self) -> None:
        own = f"e{self._author.epoch:05d}"
        for leftover in checkpoints_dir(self._job_dir).glob(f"*/*{PARTIAL_SUFFIX}"):
            if leftover.parent.name < own:
                shutil.rmtree(leftover, ignore_errors=True)
