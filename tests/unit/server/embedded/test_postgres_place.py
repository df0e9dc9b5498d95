import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from steelyard.kit.errors import PermissionDenied, Unavailable
from steelyard.server.embedded.postgres_place import (
    abandoned_data,
    can_pass,
    choose_place,
    find_binaries,
    make_place,
)
from steelyard.server.embedded.process import Account
from steelyard.server.home import HomeLayout

_STRANGER = Account("stranger", 54321, 54321)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can pass through."""
    with TemporaryDirectory(prefix="sy-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        (Path(name) / "outside").mkdir(mode=0o755)
        (Path(name) / "home").mkdir(mode=0o711)
        yield Path(name)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide as root would; nothing is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Decide as the folder's owner would, if that weren't root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_passing_needs_x_on_every_folder(folder: Path) -> None:
    inner = folder / "home" / "inner"
    inner.mkdir(mode=0o711)
    assert can_pass(inner, _STRANGER)
    assert can_pass(inner / "not" / "there", _STRANGER)
    (folder / "home").chmod(0o700)
    assert not can_pass(inner, _STRANGER)
    owner = (folder / "home").stat()
    assert can_pass(folder / "home", Account("owner", owner.st_uid, 1))


@pytest.mark.usefixtures("as_root")
def test_root_keeps_data_at_home_where_its_user_can_pass_and_outside_else(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    inside = choose_place(layout, folder / "outside")
    assert inside.account is not None
    assert inside.account.name == "nobody"
    assert inside.base == layout.postgres
    assert not inside.outside_home
    layout.root.chmod(0o700)
    outside = choose_place(layout, folder / "outside")
    assert outside.base == folder / "outside" / f"home-{layout.digest}" / "postgres"
    assert outside.outside_home
    assert oct(layout.root.stat().st_mode)[-3:] == "700"


@pytest.mark.usefixtures("as_root")
def test_data_is_never_looked_for_elsewhere_once_it_exists(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    layout.postgres.mkdir(mode=0o711)
    (layout.postgres / "place.json").write_text(f'{{"base": "{layout.postgres}"}}')
    layout.root.chmod(0o700)
    with pytest.raises(PermissionDenied, match="lost its x permission"):
        choose_place(layout, folder / "outside")


@pytest.mark.usefixtures("as_root")
def test_when_nothing_can_be_reached_the_message_says_what_to_open(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    layout.root.chmod(0o700)
    (folder / "outside").chmod(0o700)
    with pytest.raises(PermissionDenied, match="chmod o\\+x"):
        choose_place(layout, folder / "outside")


@pytest.mark.usefixtures("as_user")
def test_an_ordinary_user_stays_at_home_whatever_the_modes(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    layout.root.chmod(0o700)
    place = choose_place(layout, folder / "outside")
    assert place.account is None
    assert place.base == layout.postgres
    assert place.binaries == find_binaries()


@pytest.mark.usefixtures("as_user")
def test_an_ordinary_user_is_told_that_the_data_is_anothers(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    (layout.postgres / "data").mkdir(parents=True)
    (layout.postgres / "place.json").write_text(f'{{"base": "{layout.postgres}"}}')
    with pytest.raises(PermissionDenied, match="belongs to user"):
        choose_place(layout, folder / "outside")


def test_missing_binaries_name_three_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEELYARD_PG_BIN", str(tmp_path))
    with pytest.raises(Unavailable, match=r"pip install.*STEELYARD_PG_BIN.*STEELYARD_DATABASE_DSN"):
        find_binaries()


def test_data_outside_is_abandoned_when_its_home_is_gone(folder: Path) -> None:
    layout = HomeLayout(folder / "home")
    layout.root.chmod(0o700)
    place = choose_place(layout, folder / "outside")
    make_place(layout, place)
    assert abandoned_data(folder / "outside") == []
    (layout.postgres / "place.json").unlink()
    for path in sorted(layout.root.rglob("*"), reverse=True):
        path.rmdir()
    layout.root.rmdir()
    expected = [place.base.parent] if place.outside_home else []
    assert abandoned_data(folder / "outside") == expected
