"""Segments, offsets, rotation, and a disk that takes no more."""

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.compute.local.log import SegmentedLog, read_pieces, segment_starts


def read_whole(folder: Path, offset: int = 0, limit_bytes: int = 1 << 20) -> bytes:
    return b"".join(data for _, data in read_pieces(folder, offset, limit_bytes))


@given(
    pieces=st.lists(st.binary(max_size=40), max_size=12), offset=st.integers(0, 200), limit=st.integers(0, 99)
)
def test_reads_back_what_was_written_from_any_offset(
    pieces: list[bytes], offset: int, limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    whole = b"".join(pieces)
    for piece in pieces:
        log = SegmentedLog(folder, segment_bytes=16, segments=100)
        log.write(piece)
        log.close()
    assert read_whole(folder, offset, limit) == whole[offset : offset + limit]


def test_keeps_a_bounded_number_of_segments_and_true_offsets(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path, segment_bytes=10, segments=3)
    for number in range(10):
        log.write(b"%09d\n" % number)
    log.close()
    assert segment_starts(tmp_path) == [70, 80, 90]
    assert read_pieces(tmp_path, 0, 1000)[0] == (70, b"000000007\n")
    assert read_whole(tmp_path, 95) == b"0009\n"
    assert read_pieces(tmp_path, 100, 1000) == []


def test_an_unwritable_byte_is_dropped_and_takes_no_offset(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path, segment_bytes=1 << 20, segments=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        log.write(b"x" * 5000)
        log.write(b"lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(b"found")
    log.close()
    assert read_whole(tmp_path) == b"x" * 4096 + b"found"


def test_nothing_is_there_before_the_first_byte(tmp_path: Path) -> None:
    assert read_pieces(tmp_path / "missing", 0, 100) == []
