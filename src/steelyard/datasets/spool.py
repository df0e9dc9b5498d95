"""Every text file as lines of JSON that can be read from any place, and the chunks that it is read in.

A plain JSON Lines file is read where it lies. All else is written to the work folder once, as lines
`NUMBER<tab>JSON`, where NUMBER is the line of the source that the record began on; compressed JSON Lines
are decompressed as they are. A finished spool is reused by a run that comes after a crash. Each run reads
it by a link of its own, so that another one that ends first may take the shared name away.
"""

import codecs
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from steelyard.datasets.sources import Source
from steelyard.datasets.strict_json import BadJson, decode_at
from steelyard.datasets.unpack import read_plain
from steelyard.kit.errors import InvalidDataset
from steelyard.specs.datasets import ReadingBlock

CHUNK_BYTES = 32 << 20
_MARK = b"\xef\xbb\xbf"
_BLANK = " \t\r\n"
_OTHER_MARKS = (";", "\t", "|")
_LONE_RETURN = "a carriage return stands alone; save the file with line feeds at the ends of lines"


@dataclass(frozen=True)
class Chunk:
    """A piece of one source that one worker reads."""

    file: int
    """Index of the source."""
    path: Path
    kind: Literal["lines", "numbered", "parquet"]
    start: int
    """Byte for lines, row group for Parquet."""
    end: int
    first_line: int
    """Line, or row, of the source at `start`; from 1."""


def spool(source: Source, reading: ReadingBlock, shared: Path, own: Path) -> Literal["lines", "numbered"]:
    """Make the source readable by lines at `own`, and return how.

    Args:
        shared: where it is kept for a run that comes after a crash, and for others at the same time.
        own: a name on the same disk that nobody else uses.

    Raises:
        InvalidDataset: the file can't be decompressed, or its records can't be told apart.
    """
    while not _take(shared, own):
        _write(source, reading, shared)
    return "lines" if source.kind == "jsonl" else "numbered"


def needs_spool(source: Source) -> bool:
    """Whether the source can't be read by lines where it lies."""
    return source.kind != "jsonl" or source.compression is not None


def _take(shared: Path, own: Path) -> bool:
    try:
        os.link(shared, own)
    except FileNotFoundError:
        return False
    return True


def _write(source: Source, reading: ReadingBlock, shared: Path) -> None:
    part = shared.with_name(f"{shared.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for piece in _RECORDS[source.kind](source, reading):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, shared)
    finally:
        part.unlink(missing_ok=True)


def line_chunks(file: int, path: Path, kind: Literal["lines", "numbered"]) -> tuple[str, list[Chunk]]:
    """Read `path` once, and return the digest of its bytes and its chunks, each a run of whole lines."""
    state = hashlib.sha256()
    chunks: list[Chunk] = []
    start, position, line, first_line = 0, 0, 1, 1
    with path.open("rb") as reader:
        while block := reader.read(1 << 20):
            state.update(block)
            cut = block.rfind(b"\n") + 1
            if cut and position + cut - start >= CHUNK_BYTES:
                lines_before = block.count(b"\n", 0, cut)
                chunks.append(Chunk(file, path, kind, start, position + cut, first_line))
                start, first_line = position + cut, line + lines_before
            line += block.count(b"\n")
            position += len(block)
    if position > start:
        chunks.append(Chunk(file, path, kind, start, position, first_line))
    return f"sha256:{state.hexdigest()}", chunks


def _plain(source: Source, reading: ReadingBlock) -> Iterator[bytes]:
    return read_plain(source, reading)


def _lines(source: Source, reading: ReadingBlock) -> Iterator[tuple[int, str]]:
    """Yield numbered lines with their ends, decoded, each within the limit."""
    rest, number = b"", 0
    for block in read_plain(source, reading):
        *whole, rest = (rest + block).split(b"\n")
        if len(rest) > reading.max_line_bytes:
            raise too_long(source.name, number + len(whole) + 1, reading)
        for line in whole:
            number += 1
            yield number, _decode(source, number, line) + "\n"
    if rest:
        yield number + 1, _decode(source, number + 1, rest)


def _decode(source: Source, number: int, line: bytes) -> str:
    try:
        return (line.removeprefix(_MARK) if number == 1 else line).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDataset(
            f"{source.name}:{number}: invalid UTF-8 at byte {error.start + 1}; save the file as UTF-8"
        ) from error


def too_long(name: str, number: int, reading: ReadingBlock) -> InvalidDataset:
    """Make the error for a record beyond the limit."""
    return InvalidDataset(
        f"{name}:{number}: the record is longer than {reading.max_line_bytes} bytes; split it, or raise"
        " reading.max_line_bytes",
        param="reading.max_line_bytes",
    )


def _csv(source: Source, reading: ReadingBlock) -> Iterator[bytes]:
    csv.field_size_limit(reading.max_line_bytes)
    reader = csv.reader((line for _, line in _lines(source, reading)), strict=True)
    header: list[str] | None = None
    try:
        number = 1
        for fields in reader:
            begun, number = number, reader.line_num + 1
            if not fields:
                continue
            if header is None:
                header = _header(source, fields)
                continue
            if len(fields) != len(header):
                raise InvalidDataset(
                    f"{source.name}:{begun}: {len(fields)} fields where the header has {len(header)}; quote"
                    " fields that hold commas or line ends"
                )
            row = {name: value for name, value in zip(header, fields, strict=True) if value != ""}
            yield _numbered(begun, row)
    except csv.Error as error:
        fault = _LONE_RETURN if "new-line character" in str(error) else str(error)
        raise InvalidDataset(f"{source.name}:{reader.line_num}: not CSV: {fault}") from error


def _header(source: Source, fields: list[str]) -> list[str]:
    if len(set(fields)) != len(fields):
        raise InvalidDataset(f"{source.name}:1: the header names a column twice; rename one")
    other = next((mark for mark in _OTHER_MARKS if mark in fields[0]), None)
    if len(fields) == 1 and other is not None:
        raise InvalidDataset(
            f"{source.name}:1: the columns are parted by {other!r}, not by commas; save the file with commas"
        )
    return fields


def _text(source: Source, reading: ReadingBlock) -> Iterator[bytes]:
    for number, line in _lines(source, reading):
        if line.strip():
            yield _numbered(number, {"text": line.rstrip("\r\n")})


def _json(source: Source, reading: ReadingBlock) -> Iterator[bytes]:
    """Yield the elements of a top-level array, or the values of a stream of objects.

    The text of each value is kept as it stands (line ends between its tokens become spaces), so what a
    reader refuses later, it refuses by the value's own line.
    """
    blocks = _text_blocks(source, reading)
    text, start, line = "", 0, 1
    state = "outside"
    while True:
        text, start, line = _skip_blank(text, start, line)
        if start == len(text):
            text, start = next(blocks, ""), 0
            if not text:
                break
            continue
        if state in _MARKS and text[start] in _MARKS[state]:
            state, start = _MARKS[state][text[start]], start + 1
            continue
        if state in ("after", "closed"):
            expected = "',' or ']' after a value" if state == "after" else "nothing after the array"
            raise InvalidDataset(f"{source.name}:{line}: expected {expected}; mend the file")
        text, start, end = _value(source, reading, blocks, text, start, line)
        value = text[start:end]
        yield f"{line}\t".encode() + value.replace("\n", " ").replace("\r", " ").encode() + b"\n"
        line += value.count("\n")
        start, state = end, "stream" if state in ("outside", "stream") else "after"
    if state in ("open", "after", "comma"):
        raise InvalidDataset(f"{source.name}:{line}: the array has no end; copy the file again")


_MARKS = {
    "outside": {"[": "open"},
    "open": {"]": "closed"},
    "after": {",": "comma", "]": "closed"},
}
"""State -> mark -> next state, where the text is an array."""


def _value(
    source: Source, reading: ReadingBlock, blocks: Iterator[str], text: str, start: int, line: int
) -> tuple[str, int, int]:
    """Find the end of the value at `start`, reading on as need be; return the text and both places."""
    asked = 1
    while True:
        try:
            _, end = decode_at(text, start)
        except BadJson as error:
            raise InvalidDataset(f"{source.name}:{line}: {error}") from error
        except json.JSONDecodeError as error:
            more = "".join(islice(blocks, asked))
            if not more:
                raise InvalidDataset(f"{source.name}:{line}: invalid JSON: {error.msg}") from error
            text, start, asked = text[start:] + more, 0, asked * 2
            if len(text) > reading.max_line_bytes:
                raise too_long(source.name, line, reading) from error
            continue
        return text, start, end


def _text_blocks(source: Source, reading: ReadingBlock) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = line_before = 1
    try:
        for block in read_plain(source, reading):
            line_before = line
            line += block.count(b"\n")
            if text := decoder.decode(block):
                yield text
        line_before = line
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        before: bytes = error.object[: error.start]
        raise InvalidDataset(
            f"{source.name}:{line_before + before.count(10)}: invalid UTF-8; save the file as UTF-8"
        ) from error


def _skip_blank(text: str, start: int, line: int) -> tuple[str, int, int]:
    while start < len(text) and text[start] in _BLANK:
        line += text[start] == "\n"
        start += 1
    return text, start, line


def _numbered(number: int, row: dict[str, Any]) -> bytes:
    return f"{number}\t{json.dumps(row, ensure_ascii=False)}\n".encode()


_RECORDS: dict[str, Callable[[Source, ReadingBlock], Iterator[bytes]]] = {
    "jsonl": _plain,
    "json": _json,
    "csv": _csv,
    "txt": _text,
}
