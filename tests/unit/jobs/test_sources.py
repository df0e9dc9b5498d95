"""Which folders a job may read its base model from."""

from pathlib import Path

import pytest

from steelyard.jobs.sources import refuse_folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "objects" / "theirs").mkdir(parents=True)
    (tmp_path / "models" / "base").mkdir(parents=True)
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["builtin/tiny-random", "org/model", "models/demo@1"])
def test_what_isnt_a_folder_passes(home: Path, name: str) -> None:
    assert refuse_folder(name, home, [home.parent / "models"]) is None


def test_the_platforms_own_folders_are_refused_by_whatever_way(home: Path) -> None:
    link = home.parent / "models" / "link"
    link.symlink_to(home / "objects" / "theirs")
    for path in (home, home / "objects" / "theirs", home.parent / "models" / ".." / "home" / "objects", link):
        assert "models/NAME@VERSION" in str(refuse_folder(str(path), home, []))


def test_roots_bound_what_else_may_be_read(home: Path) -> None:
    roots = [home.parent / "models"]
    assert refuse_folder(str(home.parent / "models" / "base"), home, roots) is None
    assert "STEELYARD_MODEL_ROOTS" in str(refuse_folder("/etc", home, roots))
    assert refuse_folder("/etc", home, []) is None
