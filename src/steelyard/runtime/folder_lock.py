"""A lock on a folder, among processes of one node, that its holder's death opens."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_LOOK_SECONDS = 0.2


@contextmanager
def hold(folder: Path, *, wait: bool) -> Generator[bool]:
    """Hold the lock of `folder`, which need not exist; its parent must. The file is `<folder>.lock`.

    Args:
        wait: until whoever holds it has let go. If not, the block is told whether it holds it.
    """
    descriptor = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True
