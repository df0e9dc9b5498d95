"""One supervisor for one home: a pidfile with an flock on it. A dead holder's lock is gone with it."""

import contextlib
import fcntl
import os
from collections.abc import Generator

from steelyard.kit.errors import Conflict
from steelyard.server.home import HomeLayout


@contextlib.contextmanager
def hold_home(layout: HomeLayout) -> Generator[None]:
    """Own the home for the length of the block.

    Raises:
        Conflict: another process owns it.
    """
    descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, layout)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, layout: HomeLayout) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        raise Conflict(
            f"another supervisor (pid {holder}) has {layout.root}; `steelyard down` stops it, or set "
            "STEELYARD_HOME to another folder for a second platform"
        ) from None
