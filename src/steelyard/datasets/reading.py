# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Rows of a chunk: parsed, held to the one shape, and converted, in batches of bounded size."""

import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steelyard.datasets.columns import ID_COLUMN, Layout, Row, table_of
from steelyard.datasets.conversations import READ_FIELDS, RowFault
from steelyard.datasets.shapes import SHAPES, Shape, detect, layout_of, rename
from steelyard.datasets.spool import Chunk, too_long
from steelyard.datasets.stages import EXCERPT_CHARS
from steelyard.datasets.strict_json import BadJson, parse_strict
from steelyard.kit.errors import InvalidDataset
from steelyard.specs.datasets import ReadingBlock, SourceFormat

MAX_COLUMNS = 100
MAX_FAULTS = 50
"""Faults that one chunk keeps; all are counted."""
_SHOWN_FAULTS = 20
_BATCH_ROWS = 4096
_BATCH_BYTES = 8 << 20
_PARQUET_ROWS = 512
_SHOWN_COLUMNS = 12

Numbered = Iterator[tuple[int, Any, int]]
"""Line, parsed value or `BadJson`, size in bytes."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where."""

    file: int
    line: int
    field: str
    message: str
    excerpt: str = ""
    """The beginning of the row."""

    @property
    def reason(self) -> str:
        """Field, if it is one's, and message."""
        return f"{self.field}: {self.message}" if self.field else self.message

    def describe(self, names: list[str]) -> str:
        """Write the fault for a person: file, line, field."""
        return f"{names[self.file]}:{self.line}: {self.reason}"


@dataclass
class Tally:
    """What was read of a chunk so far."""

    rows: int = 0
    faulty: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    """Column, or field of messages, that nothing reads -> rows that have it; the first MAX_COLUMNS."""
    bytes: int = 0

    def note(self, fault: Fault) -> None:
        """Count a faulty row, and keep the first few."""
        self.faulty += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)

    def leave_out(self, columns: AbstractSet[str]) -> None:
        """Count columns of a row that the shape doesn't read."""
        for column in columns:
            if column in self.left_out or len(self.left_out) < MAX_COLUMNS:
                self.left_out[column] = self.left_out.get(column, 0) + 1


@dataclass(frozen=True)
class Plan:
    """What every row must be: agreed on before any worker starts."""

    source_format: SourceFormat
    layout: Layout
    column_map: dict[str, str]
    reading: ReadingBlock

    @property
    def reads(self) -> frozenset[str]:
        """Columns of the files that are looked at, by the names that they have there."""
        known = SHAPES[self.source_format].reads.union(self.column_map, {ID_COLUMN})
        return known - _replaced(self.column_map)


def read_tables(chunk: Chunk, name: str, plan: Plan, tally: Tally) -> Iterator[pa.Table]:
    """Yield tables of canonical rows. Rows with faults are noted in `tally` and left out.

    Raises:
        InvalidDataset: a row has another shape than the rest, or is longer than the limit.
    """
    shape, reads = SHAPES[plan.source_format], plan.reads
    rows: list[Row] = []
    lines: list[int] = []
    size = 0
    for line, value, size_bytes in _values(chunk, name, plan.reading):
        tally.rows += 1
        tally.bytes += size_bytes
        try:
            row = convert(value, plan.layout, shape, plan.column_map)
        except RowFault as error:
            tally.note(Fault(chunk.file, line, error.field, error.message, _excerpt(value)))
            continue
        except MixedShapes as error:
            raise InvalidDataset(
                f"{name}:{line}: the row is {error}, but the rows before are"
                f" {_told(plan.source_format, plan.layout)}; ingest each shape by itself"
            ) from error
        if not value.keys() <= reads:
            tally.leave_out(value.keys() - reads)
        if plan.layout.conversational:
            tally.leave_out(_unread_of_messages(value))
        rows.append(row)
        lines.append(line)
        size += size_bytes
        if len(rows) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield table_of(plan.layout, rows, [chunk.file] * len(rows), lines)
            rows, lines, size = [], [], 0
    if rows:
        yield table_of(plan.layout, rows, [chunk.file] * len(rows), lines)


def _replaced(column_map: Mapping[str, str]) -> set[str]:
    """Columns that a mapped one takes the name of."""
    return set(column_map.values()) - set(column_map)


class MixedShapes(ValueError):
    """A row of another shape; the message names that shape."""


def convert(value: Any, layout: Layout, shape: Shape, column_map: Mapping[str, str]) -> Row:
    """Turn one parsed value into a canonical row.

    Raises:
        RowFault: it breaks the schema.
        MixedShapes: it is right, but of another shape.
    """
    if isinstance(value, BadJson):
        raise RowFault("", str(value))
    if not isinstance(value, dict):
        raise RowFault("", "the record is no JSON object")
    named: Row = value  # pyright: ignore[reportUnknownVariableType] - JSON
    row = rename(named, column_map)
    if not shape.fits(row):
        other = detect(row)
        if other is not None:
            raise MixedShapes(other.source)
        raise RowFault(_missing(shape, row), "is missing")
    converted = shape.convert(row)
    found = layout_of(shape, converted)
    if found != layout:
        raise MixedShapes(found.describe())
    return converted


def agree(
    samples: Iterable[tuple[str, int, Any]], wanted: SourceFormat | None, column_map: Mapping[str, str]
) -> tuple[SourceFormat, Layout]:
    """Find the one shape of the files from rows of each (name, line, value).

    Raises:
        InvalidDataset: no shape fits, two files differ, or no sample converts.
    """
    found: tuple[SourceFormat, Layout] | None = None
    where = ""
    faults: list[str] = []
    unmapped = set(column_map)
    columns: dict[str, None] = {}
    for name, line, value in samples:
        if not isinstance(value, dict):
            said = value if isinstance(value, BadJson) else "the record is no JSON object"
            faults.append(f"{name}:{line}: {said}")
            continue
        named: Row = value  # pyright: ignore[reportUnknownVariableType] - JSON
        unmapped -= named.keys()
        columns |= dict.fromkeys(named)
        row = rename(named, column_map)
        shape = SHAPES[wanted] if wanted else detect(row)
        if shape is None:
            faults.append(_unknown(f"{name}:{line}", row))
            continue
        if not shape.fits(row):
            faults.append(f"{name}:{line}: {_unfit(shape, row)}")
            continue
        try:
            this = (shape.source, layout_of(shape, shape.convert(row)))
        except RowFault as error:
            faults.append(f"{name}:{line}: {error.field}: {error.message}")
            continue
        if found is None:
            found, where = this, f"{name}:{line}"
        elif found != this:
            raise InvalidDataset(
                f"{name}:{line} is {_told(*this)}, but {where} is {_told(*found)};"
                " ingest each shape by itself"
            )
    if found is None and columns and unmapped:
        raise InvalidDataset(
            f"column_map names {', '.join(map(repr, sorted(unmapped)))}, which no row at the beginning of the"
            f" files has; their columns are {', '.join(list(columns)[:_SHOWN_COLUMNS])}",
            param="column_map",
        )
    if found is None:
        shown = _shortened(faults) or "there are no rows; the files are empty"
        raise InvalidDataset(shown, faults=faults[:MAX_FAULTS])
    return found


def sample(chunk: Chunk, name: str, reading: ReadingBlock, count: int) -> list[tuple[str, int, Any]]:
    """Return the first values of a chunk, with the name of the file and their lines."""
    values = _values(chunk, name, reading)
    return [(name, line, value) for (line, value, _), _ in zip(values, range(count), strict=False)]


def _values(chunk: Chunk, name: str, reading: ReadingBlock) -> Numbered:
    return _parquet(chunk, name, reading) if chunk.kind == "parquet" else _lines(chunk, name, reading)


def _lines(chunk: Chunk, name: str, reading: ReadingBlock) -> Numbered:
    number = chunk.first_line - 1
    with chunk.path.open("rb") as file:
        file.seek(chunk.start)
        left = chunk.end - chunk.start
        while left > 0 and (line := file.readline(min(left, reading.max_line_bytes + 32))):
            left -= len(line)
            number += 1
            if chunk.kind == "numbered":
                head, _, line = line.partition(b"\t")
                number = int(head)
            if len(line) > reading.max_line_bytes:
                raise too_long(name, number, reading)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.isspace():
                yield number, _parse(line), len(line)


def _parse(line: bytes) -> Any:
    try:
        return parse_strict(line)
    except BadJson as error:
        error.text = line[: 4 * EXCERPT_CHARS].decode("utf-8", errors="replace").strip()
        return error


def _parquet(chunk: Chunk, name: str, reading: ReadingBlock) -> Numbered:
    number = chunk.first_line - 1
    try:
        file = pq.ParquetFile(chunk.path)
        groups = list(range(chunk.start, chunk.end))
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS, row_groups=groups):
            size = batch.nbytes // max(1, batch.num_rows)
            if size > reading.max_line_bytes:
                raise too_long(name, number + 1, reading)
            for row in batch.to_pylist():
                number += 1
                yield number, _without_nulls(row), size
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDataset(
            f"{name}: the Parquet file is damaged near row {number + 1} ({str(error)[:200]}); copy it again"
        ) from error


def _unread_of_messages(row: Row) -> set[str]:
    """Name fields of messages that nothing reads: an OpenAI `weight`, say, that would have kept one apart."""
    unread: set[str] = set()
    for column, value in row.items():
        if column == "tools" or not isinstance(value, list):
            continue
        messages: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        for message in messages:
            if isinstance(message, dict) and not message.keys() <= READ_FIELDS:
                unread |= {f"{column}[].{name}" for name in message.keys() - READ_FIELDS}
    return unread


def _without_nulls(value: Any) -> Any:
    """Leave out what a column's type makes up: a struct has every field that any row of the file has."""
    if isinstance(value, dict):
        named: Row = value  # pyright: ignore[reportUnknownVariableType] - of Arrow's making
        return {key: _without_nulls(each) for key, each in named.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _missing(shape: Shape, row: Row) -> str:
    return ", ".join(sorted(shape.needs[0] - row.keys()))


def _told(source: SourceFormat, layout: Layout) -> str:
    """Name a shape for a person, and what becomes of it where that has another name."""
    return layout.describe() if source == layout.format else f"{source}, which becomes {layout.describe()}"


def _unfit(shape: Shape, row: Row) -> str:
    other = detect(row)
    hint = f"; the row looks like {other.source}" if other else ""
    return f"{_missing(shape, row)}: is missing, and {shape.source} needs it{hint}"


def _unknown(place: str, row: Row) -> str:
    columns = ", ".join(list(row)[:_SHOWN_COLUMNS]) or "none"
    return (
        f"{place}: can't tell the shape from the columns ({columns}); give --format and --column-map"
        " (known shapes: " + ", ".join(SHAPES) + ")"
    )


def _shortened(faults: list[str]) -> str:
    """Show faults by line, but one that many rows have once only."""
    first: dict[str, str] = {}
    for fault in faults:
        first.setdefault(fault.partition(": ")[2], fault)
    shown = list(first.values())[:_SHOWN_FAULTS]
    more = len(faults) - len(shown)
    return "\n".join([*shown, f"... and {more} more rows"] if more else shown)


def _excerpt(value: Any) -> str:
    text = value.text if isinstance(value, BadJson) else json.dumps(value, ensure_ascii=False, default=str)
    return text[:EXCERPT_CHARS]
