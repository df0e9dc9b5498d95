"""Writing files so that a reader never sees half of one, and a power cut never takes back a whole one."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755


def write_atomically(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Put `data` at `path` in one move: readers see the old file or the new one.

    The bytes and the move are on the disk when this returns. Dying part-way leaves a `.tmp` file that the
    next call overwrites. Not for two writers of one path at once.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of a file that somebody else wrote durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_readers(folder: Path) -> None:
    """Let other users of the node read all of `folder`: safetensors writes mode 0600 whatever the umask."""
    for directory, _, names in os.walk(folder):
        os.chmod(directory, DIRECTORY_MODE)
        for name in names:
            os.chmod(Path(directory, name), FILE_MODE)


def list_files(folder: Path) -> Iterator[str]:
    """Yield every file below `folder`, by path relative to it, in sorted order. Links are not followed."""
    found: list[str] = []
    for directory, _, names in os.walk(folder):
        found.extend(str(Path(directory, name).relative_to(folder)) for name in names)
    yield from sorted(found)


def open_inside(folder: Path, name: str) -> int:
    """Open the file `name` below `folder` for reading, and return its descriptor; no link is followed.

    Raises:
        OSError: it isn't there, or a part of its name is a link or leads out of the folder.
    """
    *parents, last = PurePosixPath(name).parts
    if name.startswith("/") or ".." in (*parents, last):
        raise OSError(errno.ELOOP, "leads out of its folder", name)
    with contextlib.ExitStack() as opened:
        above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, above)
        for parent in parents:
            above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            opened.callback(os.close, above)
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)


def replace_folder(source: Path, target: Path) -> None:
    """Move the finished folder `source` to `target`, in place of what is there.

    Where `target` exists, there is a moment without one; the old one is beside it as `<name>.old` then.
    """
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(target, old)
    os.replace(source, target)
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)
