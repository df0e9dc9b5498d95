import base64
import shutil
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from steelyard.kit.errors import PermissionDenied, StorageFull
from steelyard.kit.home import admin_token_file
from steelyard.server.embedded import folders
from steelyard.server.home import HomeLayout


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def _nearly_full(_path: object) -> Usage:
    return Usage(100 << 30, 0, 300 << 20)


def test_folders_are_private_and_existing_ones_become_so(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path / "home")
    layout.logs.mkdir(parents=True, mode=0o755)
    layout.root.chmod(0o750)
    folders.prepare_home(layout)
    for folder in (layout.secrets, layout.logs, layout.run, layout.objects, layout.attempts):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The home was there before us: its mode is its owner's business.
    assert stat.S_IMODE(layout.root.stat().st_mode) == 0o750


def test_secrets_keep_their_values(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    folders.prepare_home(layout)
    folders.make_secrets(layout)
    first = {path.name: path.read_text() for path in layout.secrets.iterdir()}
    folders.make_secrets(layout)
    assert {path.name: path.read_text() for path in layout.secrets.iterdir()} == first
    assert len(base64.b64decode(layout.payload_key.read_text())) == 32
    assert len(set(first.values())) == len(first)
    assert admin_token_file(tmp_path).read_text().startswith("sy_")


def test_a_full_disk_is_named_with_the_folder_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", _nearly_full)
    with pytest.raises(StorageFull, match=r"300 MiB free.*STEELYARD_HOME"):
        folders.prepare_home(HomeLayout(tmp_path))


def test_sockets_of_a_long_home_go_to_a_short_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = HomeLayout(tmp_path / ("long" * 40))
    # The folder of a test may itself be too long.
    with tempfile.TemporaryDirectory() as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        chosen = folders.socket_folder(layout)
        assert chosen.parent == Path(runtime)
        assert stat.S_IMODE(chosen.stat().st_mode) == 0o700
        assert folders.fits_socket(chosen, "forkserver.sock")
    assert chosen != folders.short_socket_folder(HomeLayout(tmp_path / ("other" * 40)))


def test_a_socket_folder_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    layout = HomeLayout(tmp_path / ("long" * 40))
    folders.short_socket_folder(layout).mkdir(mode=0o755)
    with pytest.raises(PermissionDenied, match="private"):
        folders.socket_folder(layout)


def test_the_limit_of_socket_paths_is_the_kernels() -> None:
    assert folders.fits_socket(Path("/" + "a" * 100), "12345")
    assert not folders.fits_socket(Path("/" + "a" * 100), "123456")
