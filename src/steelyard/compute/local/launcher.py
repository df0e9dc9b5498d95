"""Starting the shim of an attempt, at most one that counts, through the fork server or afresh.

Safety lies in the shim's claim (see `files`); the lock only saves the work of starting shims that lose,
and keeps a second launcher from writing another token while a shim is between start and claim: the shim
holds the lock too, until it has claimed, even if the launcher that took it dies.
"""

import fcntl
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steelyard.compute.executor import LaunchSpec
from steelyard.compute.local import files
from steelyard.compute.local.environment import may_fork, payload_environment, without_platform
from steelyard.compute.local.faults import explain
from steelyard.compute.local.files import Launch, write_atomic
from steelyard.kit.errors import Unavailable
from steelyard.specs.run import RUN_NAME, SECRETS_NAME, TOKEN_NAME

_LOCK_SECONDS = 30.0
_SHIM_SECONDS = 30.0
_FORKSERVER_SECONDS = 2.0
_POLL_SECONDS = 0.005


class Launcher:
    """Starts attempts. Stateless but for its settings: any number of them agree through the files.

    `memory_factor` times the granted memory is where a payload is killed; None: nowhere.
    """

    def __init__(self, forkserver: Path | None, python: str, memory_factor: float | None) -> None:
        self._forkserver = forkserver
        self._python = python
        self._memory_factor = memory_factor

    def launch(self, spec: LaunchSpec) -> None:
        """Start the attempt or adopt it; returns when a shim has it.

        Raises:
            StorageFull: the attempt's folder can't be written.
            Unavailable: no shim could be started; asking again is safe.
        """
        folder = Path(spec.run.attempt_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if files.read_claim(folder) is not None:
                return
            with _locked(folder) as lock:
                if files.read_claim(folder) is None:
                    self._prepare(folder, spec)
                    self._start_shim(folder, lock, may_fork(spec))
        except OSError as error:
            raise explain(error.errno, str(error), folder) from error

    def _prepare(self, folder: Path, spec: LaunchSpec) -> None:
        write_atomic(folder / RUN_NAME, spec.run.model_dump_json().encode())
        write_atomic(folder / TOKEN_NAME, spec.token.encode(), 0o600)
        _write_secrets(folder / SECRETS_NAME, dict(spec.secrets))
        factor = self._memory_factor
        files.write_launch(
            folder,
            Launch(
                attempt_id=spec.run.attempt_id,
                module=spec.module,
                run_file=str(folder / RUN_NAME),
                python=self._python,
                processes=spec.processes,
                grace_seconds=spec.grace_seconds,
                memory_limit_bytes=None if factor is None else int(spec.resources.memory_bytes * factor),
                environment=payload_environment(spec, os.environ),
            ),
        )

    def _start_shim(self, folder: Path, lock: int, forked: bool) -> None:
        answer = None
        if forked and self._forkserver is not None:
            answer = _ask_forkserver(self._forkserver, folder, lock)
        if answer is None:
            answer = _start_fresh(self._python, folder, lock)
        if "errno" in answer:
            raise explain(answer["errno"], answer["message"], folder)
        if files.read_claim(folder) is None:
            raise Unavailable(f"the attempt's shim did not start; its words are in {folder}/{files.SHIM_LOG}")


def _write_secrets(folder: Path, secrets: dict[str, str]) -> None:
    if not secrets:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, value in secrets.items():
        write_atomic(folder / name, value.encode(), 0o600)


@contextmanager
def _locked(folder: Path) -> Generator[int]:
    """Hold the launch lock; it is freed when the last holder closes it, shims in the making included."""
    descriptor = os.open(folder / files.LAUNCH_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise Unavailable("another launch of this attempt doesn't get on; launch it again")
            time.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ask_forkserver(address: Path, folder: Path, lock: int) -> dict[str, Any] | None:
    """Return the new shim's answer, None where the fork server is not there or not quick."""
    request = json.dumps({"folder": str(folder)}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_FORKSERVER_SECONDS)
        try:
            connection.connect(str(address))
            socket.send_fds(connection, [request], [lock])
        except OSError:
            return None
        return _read_answer(connection.fileno(), _FORKSERVER_SECONDS)


def _start_fresh(python: str, folder: Path, lock: int) -> dict[str, Any]:
    argv = [python, "-P", "-m", "steelyard.compute.local.shim", str(folder), str(lock)]
    with (
        (folder / files.SHIM_LOG).open("ab") as record,
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=record,
            env=without_platform(os.environ),
            cwd="/",
            pass_fds=(lock,),
            start_new_session=True,
        ) as process,
    ):
        if process.stdout is None:
            raise Unavailable("the shim has no pipe to answer by; launch the attempt again")
        return _read_answer(process.stdout.fileno(), _SHIM_SECONDS) or {}


def _read_answer(descriptor: int, timeout_seconds: float) -> dict[str, Any] | None:
    """Read one line of JSON; None where none came in time or the other side went away."""
    deadline = time.monotonic() + timeout_seconds
    data = b""
    while not data.endswith(b"\n"):
        patience = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], patience)[0]:
            return None
        try:
            piece = os.read(descriptor, 4096)
        except OSError:
            return None
        if not piece:
            return None
        data += piece
    return json.loads(data)
