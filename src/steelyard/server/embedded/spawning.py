"""Starting one process: its own session and log, another user if told so, and death with its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from steelyard.server.embedded.process import ProcessSpec

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_LOGS_KEPT = 3
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(spec: ProcessSpec, log: Path) -> subprocess.Popen[bytes]:
    """Start the process. It is the leader of a session of its own, and writes to `log`.

    Linux: gets `spec.stop_signal` when the caller's thread ends in whatever way, so call this from the main
    thread.

    Raises:
        OSError: it can't be started.
    """
    account = spec.account
    with _open_log(log) as output:
        return subprocess.Popen(
            spec.argv,
            env=dict(spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=_leash(spec.stop_signal, spec.niceness),
        )


async def wait_for_end(pid: int) -> None:
    """Wait until a child has ended, and leave it a zombie, so that nobody else gets its number yet."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def reap(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of an ended child's session group, then collect it. Returns its return code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def rotate_log(path: Path) -> None:
    """Move a log that has grown large aside; the oldest goes."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size < _LOG_LIMIT_BYTES:
            return
        for number in range(_LOGS_KEPT - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(f"{path.name}.{number}").replace(f"{path}.{number + 1}")
        path.replace(f"{path}.1")


def _open_log(path: Path) -> BinaryIO:
    rotate_log(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def _leash(death_signal: signal.Signals, niceness: int) -> Callable[[], None]:
    parent = os.getpid()

    # Runs in the child after the change of user, which would clear the death signal.
    def apply() -> None:
        if niceness:
            os.nice(niceness)
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return apply
