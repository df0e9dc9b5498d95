"""An attempt's log: segments of bounded size, named by the offset of their first byte.

Offsets count from the first byte that the attempt ever wrote, so a reader goes on where it stopped,
whatever was rotated away since. One process writes (the shim); any number read.
"""

import os
from pathlib import Path

_SUFFIX = ".log"


class SegmentedLog:
    """The writing end. Holds `segments` files of `segment_bytes` at most; a full disk drops bytes."""

    def __init__(self, folder: Path, segment_bytes: int, segments: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments = segments
        folder.mkdir(parents=True, exist_ok=True)
        starts = segment_starts(folder)
        self._start = starts[-1] if starts else 0
        self._descriptor = self._open(self._start)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Append `data`; what the disk has no room for is dropped, and takes up no offset."""
        view = memoryview(data)
        while view:
            if self._size >= self._segment_bytes:
                self._rotate()
            room = self._segment_bytes - self._size if self._size < self._segment_bytes else len(view)
            try:
                written = os.write(self._descriptor, view[:room])
            except OSError:
                return
            self._size += written
            view = view[written:]

    def descriptors(self) -> tuple[int, ...]:
        """Return the open descriptors, for a forked child to close."""
        return (self._descriptor,)

    def close(self) -> None:
        """Close the newest segment. The log can be opened again and goes on where it stopped."""
        os.close(self._descriptor)

    def _rotate(self) -> None:
        start = self._start + self._size
        try:
            fresh = self._open(start)
        except OSError:
            # No room for a new file: the present one grows beyond its size until there is.
            return
        os.close(self._descriptor)
        self._descriptor, self._start, self._size = fresh, start, 0
        for old in segment_starts(self._folder)[: -self._segments]:
            _segment(self._folder, old).unlink(missing_ok=True)

    def _open(self, start: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(_segment(self._folder, start), flags, 0o644)


def segment_starts(folder: Path) -> list[int]:
    """Return the offsets at which segments begin, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[: -len(_SUFFIX)]) for name in names if name.endswith(_SUFFIX))


def read_pieces(folder: Path, offset: int, limit_bytes: int) -> list[tuple[int, bytes]]:
    """Return what there is from `offset` on, at most `limit_bytes`, as (offset, bytes) in order.

    A reader that asks for what was rotated away gets the oldest there is, with its true offset.
    """
    pieces: list[tuple[int, bytes]] = []
    starts = segment_starts(folder)
    for start, following in zip(starts, [*starts[1:], None], strict=False):
        if limit_bytes <= 0:
            break
        if following is not None and following <= offset:
            continue
        at = max(offset, start)
        data = _read_at(_segment(folder, start), at - start, limit_bytes)
        if data:
            pieces.append((at, data))
            limit_bytes -= len(data)
            offset = at + len(data)
    return pieces


def _read_at(path: Path, position: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(size)
    except FileNotFoundError:
        return b""


def _segment(folder: Path, start: int) -> Path:
    return folder / f"{start:020d}{_SUFFIX}"
