"""The work folder of one ingest: outputs appear whole or not at all, and outlive a crash.

The folder's name is the digest of what is ingested and how, so a run that comes after a crash finds
what is finished. A lock keeps two runs of the same ingest apart; the kernel frees it with the process.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from steelyard.kit.errors import Conflict

FORM = "3"
"""Of the files in the folder. It goes up whenever they change, so that no release reads another's."""


@contextmanager
def lock_folder(folder: Path, *, wait: bool = False) -> Generator[None]:
    """Hold the folder for this process.

    Args:
        wait: until nobody else holds it, however long that takes.

    Raises:
        Conflict: another process is at the same ingest, and `wait` is False.
    """
    path = folder.with_name(folder.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            _lock(file, wait=wait)
            if not _is_at(file, path):
                continue
            folder.mkdir(exist_ok=True)
            yield
            return


def _lock(file: IO[str], *, wait: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict("the same ingest runs in another process; wait for it, then ask again") from error


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the file is there still: whoever had the lock may have taken it away with the folder."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is there whole, and on the disk, or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: Path) -> Any:
    """Return the value of a file that `write_json` wrote, or None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def publish_file(part: Path, path: Path) -> None:
    """Put a finished file in its place, its bytes on the disk first."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def remove_folder(folder: Path) -> None:
    """Remove the folder and its lock file, if they are there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(folder.name + ".lock").unlink(missing_ok=True)
