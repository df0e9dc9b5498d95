"""The process that carries out an order: it waits for its like, and never outlives who started it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.datasets.files import PLAIN, Row, ingest, write_jsonl

from steelyard.datasets.build import ProgressNote
from steelyard.datasets.ingest import Request, build_version
from steelyard.datasets.work import lock_folder, remove_folder
from steelyard.kit.errors import Conflict
from steelyard.runtime.parent import PARENT_VARIABLE

_ROWS: list[Row] = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(40)]
_STARTS = """
import os, signal, subprocess, sys
environment = {**os.environ, "STEELYARD_PARENT_PID": str(os.getpid())}
process = subprocess.Popen([sys.executable, "-m", "steelyard.datasets.process", sys.argv[1]],
    stdout=subprocess.PIPE, env=environment)
process.stdout.readline()
print(process.pid, flush=True)
signal.pause()
"""


def _order(folder: Path) -> tuple[Path, Request]:
    uploads = folder / "uploads"
    uploads.mkdir()
    path = write_jsonl(uploads / "a.jsonl", _ROWS)
    (folder / "sets.json").write_text("{}")
    order: dict[str, Any] = {
        "inputs": [str(path)],
        "spec": PLAIN.model_dump(mode="json"),
        "store_root": str(folder / "store"),
        "work_root": str(folder / "work"),
        "roots": [str(uploads)],
        "evaluation_sets": str(folder / "sets.json"),
    }
    (folder / "order.json").write_text(json.dumps(order))
    request = Request(
        inputs=[path],
        spec=PLAIN,
        store_root=folder / "store",
        work_root=folder / "work",
        workers=1,
        roots=[uploads],
    )
    return folder / "order.json", request


def _work_folder(request: Request) -> Path:
    """Begin an ingest, break it off, and return the folder that it left."""

    def stop(note: ProgressNote) -> None:
        if note.stage == "gather":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_version(request, stop)
    (folder,) = [path for path in request.work_root.iterdir() if len(path.name) == 64]
    return folder


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_waits_while_another_is_at_the_same_ingest(tmp_path: Path) -> None:
    order, request = _order(tmp_path)
    expected = ingest(tmp_path / "calm", tmp_path / "uploads" / "a.jsonl").manifest.digest
    with lock_folder(_work_folder(request)):
        with pytest.raises(Conflict):
            build_version(request, lambda _: None)
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard.datasets.process", str(order)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert "progress" in json.loads(process.stdout.readline())
        _wait_for(lambda: f" {process.pid} " in _waiters())
    last = process.communicate(timeout=60)[0].splitlines()[-1]
    assert json.loads(last)["manifest"]["digest"] == expected


def _waiters() -> str:
    """Return the kernel's list of locks that somebody waits for."""
    return "\n".join(line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def test_it_dies_with_who_started_it(tmp_path: Path) -> None:
    order, request = _order(tmp_path)
    with lock_folder(_work_folder(request)):
        starts = [sys.executable, "-c", _STARTS, str(order)]
        with subprocess.Popen(starts, stdout=subprocess.PIPE) as starter:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
            assert _is_alive(pid)
            starter.send_signal(signal.SIGKILL)
        _wait_for(lambda: not _is_alive(pid))


def test_it_does_nothing_where_who_started_it_is_dead_already(tmp_path: Path) -> None:
    order, _ = _order(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "steelyard.datasets.process", str(order)],
        env={**os.environ, PARENT_VARIABLE: "1"}, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGKILL
    assert not (tmp_path / "work").exists()


def test_a_lock_that_went_with_its_folder_is_nobodys(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "x"
    with lock_folder(folder):
        remove_folder(folder)
        with lock_folder(folder):
            assert folder.is_dir()
            with pytest.raises(Conflict), lock_folder(folder):
                pass
