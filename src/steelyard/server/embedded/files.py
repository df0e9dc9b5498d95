"""Files that are whole or not there."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace `path` by a file with `data`. A reader, and a killed writer, leave the old one or the new one.

    `durable` makes it so for a power cut too, at the price of some milliseconds.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_once(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` with `data` unless it exists; of two writers at once, one wins and the other keeps it."""
    if path.exists():
        return
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_atomically(scratch, data, mode)
    try:
        os.link(scratch, path)
    except FileExistsError:
        return
    finally:
        scratch.unlink()
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_tail(path: Path, lines: int, limit_bytes: int = 64 * 1024) -> list[str]:
    """Return the last lines of a text file; none if it isn't there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - limit_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]
