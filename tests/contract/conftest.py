"""A real fork server for the tests of this folder, with the training stack imported."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_SECONDS = 120.0


@pytest.fixture(scope="session")
def forkserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("forks")
    address = folder / "forks.sock"
    argv = [sys.executable, "-m", "steelyard.compute.local.forkserver", "--socket", str(address)]
    with (folder / "stderr").open("wb") as record, subprocess.Popen(argv, stderr=record) as process:
        _wait_until_listening(process, address, folder / "stderr")
        yield address
        process.terminate()
        assert process.wait(10) == 0


def _wait_until_listening(process: subprocess.Popen[bytes], address: Path, record: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as connection:
            if connection.connect_ex(str(address)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the fork server did not come up: {record.read_text()}")
