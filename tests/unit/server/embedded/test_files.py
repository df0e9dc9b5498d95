import stat
from pathlib import Path

import pytest

from steelyard.server.embedded.files import read_tail, write_atomically, write_once


def test_a_written_file_has_its_mode_and_leaves_no_scratch(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "a", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_secret_is_written_once(tmp_path: Path) -> None:
    write_once(tmp_path / "a", b"one")
    write_once(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_tail_gives_the_last_lines_and_none_of_what_isnt_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\n".join(b"line %d" % number for number in range(20_000)))
    assert read_tail(tmp_path / "log", 2) == ["line 19998", "line 19999"]
    assert read_tail(tmp_path / "other", 2) == []
