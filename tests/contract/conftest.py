"""A real fork server for the tests of this folder, with the training stack imported."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_SECONDS = 120.0
_BARE_SERVER = """
import sys
from pathlib import Path
from steelyard.compute.local.forkserver import listen
listen(Path(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def forkserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    address = tmp_path_factory.mktemp("forks") / "forks.sock"
    argv = [sys.executable, "-m", "steelyard.compute.local.forkserver", "--socket", str(address)]
    environment = {**os.environ, "STEELYARD_DATABASE_DSN": "postgresql://user:secret@host/db"}
    with subprocess.Popen(argv, env=environment) as process:
        wait_until_listening(process, address)
        yield address
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture
def bare_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A fork server that has imported nothing, to be killed in many ways."""
    address = tmp_path / "bare.sock"
    with subprocess.Popen([sys.executable, "-c", _BARE_SERVER, str(address)]) as process:
        wait_until_listening(process, address)
        yield process, address
        process.kill()


def wait_until_listening(process: subprocess.Popen[bytes], address: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as connection:
            if connection.connect_ex(str(address)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("the fork server did not come up; its own words are above")
