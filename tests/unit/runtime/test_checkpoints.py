"""Saving is all or nothing, and rotation never costs the way back."""

import re
from pathlib import Path

import pytest
from tests.unit.runtime.conftest import ScriptedChannel, checkpoints_of, write_state

from steelyard.runtime.channel import NullChannel
from steelyard.runtime.failures import Fenced, RunFailure
from steelyard.runtime.layout import checkpoint_dir, list_checkpoints, partial_dir
from steelyard.runtime.manifests import verify_manifest
from steelyard.specs.outcome import ExitCode


def _kept(job_dir: Path) -> list[tuple[int, int]]:
    return [(each.epoch, each.step) for each in list_checkpoints(job_dir)]


def _write_other(folder: Path) -> None:
    (folder / "new").write_text("x")


class TestSave:
    def test_a_checkpoint_is_whole_and_published_with_its_digest(
        self, job_dir: Path, channel: ScriptedChannel
    ) -> None:
        folder = checkpoints_of(job_dir, channel).save(20, write_state)
        assert folder == job_dir / "checkpoints" / "e00001" / "step-00000020"
        assert verify_manifest(folder) is None
        ((report, _),) = channel.waiting
        assert report.path == "checkpoints/e00001/step-00000020"
        assert report.size_bytes == 1002
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", report.manifest_digest)

    def test_dying_while_writing_leaves_no_checkpoint(self, job_dir: Path, channel: ScriptedChannel) -> None:
        def die(folder: Path) -> None:
            write_state(folder)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            checkpoints_of(job_dir, channel).save(10, die)
        assert list_checkpoints(job_dir) == []
        assert channel.waiting == []
        checkpoints_of(job_dir, channel).save(10, write_state)
        assert _kept(job_dir) == [(1, 10)]

    def test_a_repeated_step_replaces_the_folder(self, job_dir: Path, channel: ScriptedChannel) -> None:
        checkpoints = checkpoints_of(job_dir, channel)
        checkpoints.save(10, write_state)
        folder = checkpoints.save(10, _write_other)
        assert [path.name for path in folder.iterdir() if path.name != "MANIFEST.json"] == ["new"]
        assert verify_manifest(folder) is None
        assert [path.name for path in folder.parent.iterdir()] == ["step-00000010"]

    def test_a_fenced_attempt_puts_nothing_in_place(self, job_dir: Path, channel: ScriptedChannel) -> None:
        def lose_lease_meanwhile(folder: Path) -> None:
            write_state(folder)
            channel.fenced = True

        checkpoints = checkpoints_of(job_dir, channel)
        with pytest.raises(Fenced):
            checkpoints.save(10, lose_lease_meanwhile)
        with pytest.raises(Fenced):
            checkpoints.save_model(10, write_state)
        assert list_checkpoints(job_dir) == []
        assert channel.waiting == []
        assert not (job_dir / "models").exists()


class TestRotation:
    def test_only_accepted_publications_rotate(self, job_dir: Path, channel: ScriptedChannel) -> None:
        checkpoints = checkpoints_of(job_dir, channel, limit=2)
        for step in (10, 20, 30, 40):
            checkpoints.save(step, write_state)
        assert len(_kept(job_dir)) == 4
        channel.accept_all()
        assert _kept(job_dir) == [(1, 40), (1, 30)]

    def test_unpublished_ones_stay(self, job_dir: Path, channel: ScriptedChannel) -> None:
        checkpoints = checkpoints_of(job_dir, channel, limit=2)
        for step in (10, 20, 30):
            checkpoints.save(step, write_state)
        report, published = channel.waiting.pop(0)
        published(report)
        assert _kept(job_dir) == [(1, 30), (1, 20), (1, 10)]

    def test_a_later_epoch_is_newer_even_at_an_earlier_step(self, job_dir: Path) -> None:
        first = checkpoints_of(job_dir, NullChannel(), limit=3)
        for step in (10, 20, 30):
            first.save(step, write_state)
        resumed = checkpoint_dir(job_dir, 1, 10)
        second = checkpoints_of(job_dir, NullChannel(), epoch=2, limit=3, resume_from=resumed)
        second.save(20, write_state)
        assert _kept(job_dir) == [(2, 20), (1, 30), (1, 20)]

    def test_the_one_resumed_from_stays_until_there_is_a_newer_one(
        self, job_dir: Path, channel: ScriptedChannel
    ) -> None:
        first = checkpoints_of(job_dir, NullChannel(), limit=2)
        first.save(10, write_state)
        first.save(20, write_state)
        second = checkpoints_of(
            job_dir, channel, epoch=2, limit=2, resume_from=checkpoint_dir(job_dir, 1, 20)
        )
        second.save(30, write_state)
        assert _kept(job_dir) == [(2, 30), (1, 20), (1, 10)]
        channel.accept_all()
        assert _kept(job_dir) == [(2, 30), (1, 20)]

    def test_a_stale_attempt_does_not_touch_its_successor(
        self, job_dir: Path, channel: ScriptedChannel
    ) -> None:
        stale = checkpoints_of(job_dir, channel, epoch=1, limit=2)
        stale.save(10, write_state)
        successor = checkpoints_of(job_dir, NullChannel(), epoch=2, limit=2)
        successor.save(20, write_state)
        successor.save(30, write_state)
        channel.accept_all()
        assert {(2, 20), (2, 30)} <= set(_kept(job_dir))

    def test_leftovers_of_dead_epochs_go(self, job_dir: Path) -> None:
        leftover = partial_dir(checkpoint_dir(job_dir, 1, 5))
        leftover.mkdir(parents=True)
        checkpoints_of(job_dir, NullChannel(), epoch=2).save(10, write_state)
        assert not leftover.exists()


class TestLatest:
    def test_nothing_to_resume(self, job_dir: Path, channel: ScriptedChannel) -> None:
        assert checkpoints_of(job_dir, channel).latest() is None

    def test_damage_is_a_transient_failure(self, job_dir: Path, channel: ScriptedChannel) -> None:
        folder = checkpoints_of(job_dir, channel).save(10, write_state)
        (folder / "weights" / "a.bin").write_bytes(b"b" * 1000)
        with pytest.raises(RunFailure, match=r"weights/a\.bin") as caught:
            checkpoints_of(job_dir, channel, epoch=2, resume_from=folder).latest()
        assert caught.value.exit_code == ExitCode.TRANSIENT
