"""What a killed PostgreSQL leaves lying about."""

import os
import subprocess
from pathlib import Path

import pytest

from steelyard.server.embedded.postgres import clear_stray
from steelyard.server.embedded.postgres_place import PostgresPlace


@pytest.fixture
def place(tmp_path: Path) -> PostgresPlace:
    data, sockets = tmp_path / "data", tmp_path / "sockets"
    data.mkdir()
    sockets.mkdir()
    return PostgresPlace(tmp_path, sockets, tmp_path, None, outside_home=False, copied_binaries=False)


@pytest.mark.parametrize("lock", ["data/postmaster.pid", "sockets/.s.PGSQL.5432.lock"])
def test_a_lock_of_a_postmaster_that_nobody_has_collected_yet_is_cleared(
    place: PostgresPlace, lock: str
) -> None:
    dead = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    path = place.base / lock
    path.write_text(f"{dead.pid}\n{place.data}\n")
    clear_stray(place)
    assert not path.exists()
    dead.wait()


def test_a_lock_of_a_pid_that_is_gone_is_left_to_postgresql(place: PostgresPlace) -> None:
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    path = place.data / "postmaster.pid"
    path.write_text(f"{dead.pid}\n")
    clear_stray(place)
    assert path.exists()
