"""One piece of a file of rows, tokenized into one Arrow file. Runs in worker processes."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure
from steelyard.runtime.files import sync_file, write_atomically
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.tokens import TokenSummary
from steelyard.trainers.lengths import Tally
from steelyard.trainers.rows import Row, parse_row
from steelyard.trainers.tokenizing import TemplateFailure, check_options, encode

_BATCH_ROWS = 500
_BATCH_BYTES = 2 << 20
_COUNT_BYTES = 1 << 20
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


@dataclass(frozen=True)
class Piece:
    """The lines of `source` that begin in [start, end), and the Arrow file to make of them."""

    source: Path
    start: int
    end: int
    target: Path

    @property
    def note(self) -> Path:
        """The summary; there once the Arrow file is whole."""
        return self.target.with_suffix(".json")


def cut(paths: Sequence[str], folder: Path, piece_bytes: int) -> list[Piece]:
    """Cut files into pieces. Depends on the files alone, so the pieces are the same for any worker count."""
    spans = [
        (Path(path), start, start + piece_bytes)
        for path in paths
        for start in range(0, Path(path).stat().st_size, piece_bytes)
    ]
    return [Piece(*span, folder / f"tokens-{number:05}.arrow") for number, span in enumerate(spans)]


def finished(piece: Piece) -> TokenSummary | None:
    """Return what came of a piece, if that was done before."""
    try:
        return TokenSummary.model_validate_json(piece.note.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def tokenize_piece(
    piece: Piece, shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> TokenSummary:
    """Tokenize a piece. Holds a few megabytes of text and their tokens. Killed, it leaves no whole file.

    Raises:
        RunFailure: a row can't be had, and which.
    """
    temporary = piece.target.with_suffix(".part")
    total = TokenSummary()
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for before, rows in _batches(piece, shape):
            total = total.plus(_write(writer, rows, shape, tokenizer, training, _Place(piece, before)))
    sync_file(temporary)
    os.replace(temporary, piece.target)
    write_atomically(piece.note, total.model_dump_json().encode())
    return total


@dataclass(frozen=True)
class _Place:
    """Where rows are: so many lines into a piece."""

    piece: Piece
    rows: int

    def count_before(self) -> int:
        """Return the number of rows of the whole file that come before. Reads the file to here."""
        left, lines, last = self.piece.start, self.rows, b"\n"
        with self.piece.source.open("rb") as file:
            while left > 0 and (data := file.read(min(left, _COUNT_BYTES))):
                left -= len(data)
                lines += data.count(b"\n")
                last = data[-1:]
        # A line that goes on across the piece's start is one more that the last piece has.
        return lines if last == b"\n" else lines + 1


def _write(
    writer: pa.RecordBatchStreamWriter,
    rows: Sequence[Row],
    shape: DatasetFormat,
    tokenizer: PreTrainedTokenizerBase,
    training: TrainingBlock,
    place: _Place,
) -> TokenSummary:
    check_options(rows, shape, tokenizer, training)
    try:
        kept, summary = _fit(rows, shape, tokenizer, training, 0)
    except TemplateFailure as failure:
        raise TemplateFailure(failure.row, failure.told, before=place.count_before()) from failure
    except RunFailure:
        # The row's number in the whole file is dear, and only a failure needs it.
        kept, summary = _fit(rows, shape, tokenizer, training, place.count_before())
    if kept:
        ids, labels = zip(*kept, strict=True)
        columns = [pa.array(ids, SCHEMA[0].type), pa.array(labels, SCHEMA[1].type)]
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
    return summary


def _fit(
    rows: Sequence[Row],
    shape: DatasetFormat,
    tokenizer: PreTrainedTokenizerBase,
    training: TrainingBlock,
    rows_before: int,
) -> tuple[list[tuple[list[int], list[int]]], TokenSummary]:
    tally = Tally(training, rows_before=rows_before)
    fitted = (tally.fit(example) for example in encode(rows, shape, tokenizer, training))
    return [(each.input_ids, each.labels) for each in fitted if each is not None], tally.summary()


def _batches(piece: Piece, shape: DatasetFormat) -> Iterator[tuple[int, list[Row]]]:
    """Yield rows in batches of a bounded size, each with the number of rows of the piece before it."""
    rows: list[Row] = []
    before = size = 0
    for line in _lines(piece):
        if line.strip():
            rows.append(parse_row(line.decode(), piece.source, before + len(rows) + 1, shape))
            size += len(line)
        if len(rows) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield before, rows
            before, rows, size = before + len(rows), [], 0
    if rows:
        yield before, rows


def _lines(piece: Piece) -> Iterator[bytes]:
    with piece.source.open("rb") as file:
        position = 0
        if piece.start:
            # The last piece has the line that the boundary falls into; a line that begins on it is ours.
            file.seek(piece.start - 1)
            position = piece.start - 1 + len(file.readline())
        while position < piece.end and (line := file.readline()):
            position += len(line)
            yield line
