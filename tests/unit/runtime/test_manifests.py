"""Damage of every kind is found and named."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.runtime.manifests import DamageKind, read_manifest, total_size, verify_manifest, write_manifest
from steelyard.specs.manifest import MANIFEST_NAME, Manifest


def _seal(folder: Path) -> Manifest:
    return write_manifest(folder, kind="checkpoint", job_id="j", attempt_id="a", epoch=1, step=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "e00001" / "step-00000002"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.bin").write_bytes(bytes(range(256)))
    (folder / "deep" / "optimizer.bin").write_bytes(b"momentum")
    _seal(folder)
    return folder


def _unfinish(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


def _garble(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_text("{")


def _lose(folder: Path) -> None:
    (folder / "model.bin").unlink()


def _add(folder: Path) -> None:
    (folder / "stray").write_text("")


def _truncate(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"short")


def _flip(folder: Path) -> None:
    data = bytearray((folder / "deep" / "optimizer.bin").read_bytes())
    data[3] ^= 1
    (folder / "deep" / "optimizer.bin").write_bytes(data)


class TestVerify:
    def test_a_whole_folder_has_no_damage(self, folder: Path) -> None:
        assert verify_manifest(folder) is None
        assert total_size(read_manifest(folder)) == 256 + 8

    @pytest.mark.parametrize(
        ("harm", "kind", "file"),
        [
            (_unfinish, DamageKind.NO_MANIFEST, MANIFEST_NAME),
            (_garble, DamageKind.BAD_MANIFEST, MANIFEST_NAME),
            (_lose, DamageKind.MISSING, "model.bin"),
            (_truncate, DamageKind.TRUNCATED, "model.bin"),
            (_flip, DamageKind.CHANGED, "deep/optimizer.bin"),
            (_add, DamageKind.EXTRA, "stray"),
        ],
    )
    def test_damage_has_a_kind_and_a_file(
        self, folder: Path, harm: Callable[[Path], object], kind: DamageKind, file: str
    ) -> None:
        harm(folder)
        damage = verify_manifest(folder)
        assert damage is not None
        assert (damage.kind, damage.file) == (kind, file)
        assert "step-00000002" in damage.message

    def test_a_folder_that_is_not_there_was_never_finished(self, tmp_path: Path) -> None:
        damage = verify_manifest(tmp_path / "nowhere")
        assert damage is not None
        assert damage.kind is DamageKind.NO_MANIFEST

    def test_a_manifest_may_not_name_files_outside(self, folder: Path) -> None:
        text = (folder / MANIFEST_NAME).read_text()
        (folder / MANIFEST_NAME).write_text(text.replace("model.bin", "../model.bin"))
        damage = verify_manifest(folder)
        assert damage is not None
        assert damage.kind is DamageKind.BAD_MANIFEST

    @settings(max_examples=40, deadline=None)
    @given(place=st.integers(0, 255), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
    ) -> None:
        folder = tmp_path_factory.mktemp("flip")
        data = bytearray(range(256))
        (folder / "file").write_bytes(data)
        _seal(folder)
        data[place] ^= 1 << bit
        (folder / "file").write_bytes(data)
        damage = verify_manifest(folder)
        assert damage is not None
        assert damage.kind is DamageKind.CHANGED


class TestWrite:
    def test_files_become_readable_to_others(self, tmp_path: Path) -> None:
        (tmp_path / "secretive").write_text("x")
        (tmp_path / "secretive").chmod(0o600)
        _seal(tmp_path)
        assert (tmp_path / "secretive").stat().st_mode & 0o777 == 0o644
        assert (tmp_path / MANIFEST_NAME).stat().st_mode & 0o777 == 0o644

    def test_the_digest_is_of_contents_alone(self, folder: Path) -> None:
        before = read_manifest(folder)
        other = write_manifest(folder, kind="model", job_id="k", attempt_id="b", epoch=9, step=3)
        assert other.digest() == before.digest()
        assert verify_manifest(folder) is None
