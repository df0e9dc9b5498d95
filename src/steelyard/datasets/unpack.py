"""Decompression that trusts nothing: truncated and damaged streams, and bombs, are errors."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

from steelyard.datasets.sources import Source
from steelyard.kit.errors import InvalidDataset
from steelyard.specs.datasets import ReadingBlock

_READ_BYTES = 1 << 16
_FREE_BYTES = 64 << 20
"""Expansion isn't looked at below this size: a few kilobytes of blanks are no bomb."""


def read_plain(source: Source, reading: ReadingBlock) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed, in pieces of bounded size.

    Raises:
        InvalidDataset: the stream is cut off or damaged, or expands beyond the limits.
    """
    if source.compression is None:
        yield from _blocks(source.path, 1 << 20)
        return
    allowed = min(
        reading.max_expanded_bytes,
        max(_FREE_BYTES, int(source.path.stat().st_size * reading.max_expansion)),
    )
    total = 0
    unpack = _gunzip if source.compression == "gzip" else _unzstd
    try:
        for piece in unpack(source.path):
            total += len(piece)
            if total > allowed:
                raise InvalidDataset(
                    f"{source.name}: expands to more than {allowed} bytes, which looks like a bomb; raise"
                    " reading.max_expansion or reading.max_expanded_bytes if it is meant"
                )
            yield piece
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidDataset(
            f"{source.name}: the {source.compression} stream is damaged after {total} bytes ({error});"
            " make the file again"
        ) from error
    except EOFError as error:
        raise InvalidDataset(
            f"{source.name}: the {source.compression} stream is cut off after {total} bytes; copy the file"
            " again"
        ) from error


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(size):
            yield block


def _gunzip(path: Path) -> Iterator[bytes]:
    """Yield the members of a gzip file; zero bytes after the last one are padding."""
    state = zlib.decompressobj(wbits=31)
    begun = False
    for block in _blocks(path, _READ_BYTES):
        while block:
            if not begun and not block.strip(b"\0"):
                break
            begun = True
            piece = state.decompress(block, 1 << 20)
            if piece:
                yield piece
            block = state.unconsumed_tail
            if state.eof:
                block = state.unused_data
                state, begun = zlib.decompressobj(wbits=31), False
    if begun:
        raise EOFError


def _unzstd(path: Path) -> Iterator[bytes]:
    """Yield the frames of a zstd file."""
    state = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    begun = False
    for block in _blocks(path, _READ_BYTES >> 4):
        while block:
            begun = True
            yield state.decompress(block)
            block = b""
            if state.eof:
                block = state.unused_data
                state = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
                begun = False
    if begun:
        raise EOFError
