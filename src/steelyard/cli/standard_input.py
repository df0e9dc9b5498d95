"""Rows from standard input: kept in a file whose ending says what they are."""

import csv
import json
import shutil
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import zstandard

from steelyard.client.data_files import DataFile
from steelyard.kit.errors import InvalidRequest

KINDS = ("jsonl", "json", "csv", "parquet", "txt")
_LOOK_BYTES = 1 << 16
_COLUMNS = frozenset(
    [
        "prompt",
        "completion",
        "label",
        "text",
        "messages",
        "conversations",
        "instruction",
        "input",
        "output",
        "chosen",
        "rejected",
    ]
)


def receive(stream: BinaryIO, folder: Path, kind: str | None, columns: Collection[str] = ()) -> DataFile:
    """Write all of a stream to a file in `folder`.

    Args:
        kind: one of KINDS; None: found by looking at the beginning.
        columns: names, beside the usual ones, that the header of a CSV file may have.

    Raises:
        InvalidRequest: the beginning looks like nothing that is known.
    """
    raw = folder / "stdin"
    with raw.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    with raw.open("rb") as file:
        start = file.read(_LOOK_BYTES)
    found = kind or kind_of(_unpacked(start), _COLUMNS.union(columns))
    if found is None:
        raise InvalidRequest(
            "standard input is neither JSON nor Parquet nor CSV with the usual columns; say what it is with"
            f" --stdin-kind ({', '.join(KINDS)})",
            param="--stdin-kind",
        )
    return DataFile(raw.rename(folder / f"stdin.{found}"), "stdin")


def kind_of(start: bytes, columns: Collection[str]) -> str | None:
    """Return what rows that begin so are, or None where that can't be told. Nothing at all is JSON Lines."""
    if start.startswith(b"PAR1"):
        return "parquet"
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("["):
        return "json"
    if not text or text.startswith("{"):
        return "jsonl" if _is_whole_line(text) else "json"
    header = next(csv.reader([text.partition("\n")[0].rstrip("\r")]), list[str]())
    return "csv" if any(column in columns for column in header) else None


def _is_whole_line(text: str) -> bool:
    line, end, _ = text.partition("\n")
    if not end:
        return True
    try:
        json.loads(line)
    except ValueError:
        # A line that is broken only later in the line is one of JSON Lines: its fault is told by its number.
        return len(line.strip()) > 1
    return True


def _unpacked(start: bytes) -> bytes:
    try:
        if start.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(start, _LOOK_BYTES)
        if start.startswith(b"\x28\xb5\x2f\xfd"):
            with zstandard.ZstdDecompressor().stream_reader(start) as reader:
                return reader.read(_LOOK_BYTES)
    except (zlib.error, zstandard.ZstdError):
        return b"{}"
    return start
