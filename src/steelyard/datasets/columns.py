# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Canonical columns: TRL's, as Arrow types, and the way from rows to tables and back.

A layout is a format and whether its texts are conversations. A conversation is a list of messages of
one fixed struct; what has no fixed shape (tool calls, tools) is kept as JSON text inside, so that a
schema never depends on the rows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from steelyard.specs.blocks import DatasetFormat

Kind = Literal["text", "messages", "json", "label"]
Row = dict[str, Any]

MESSAGE_FIELDS = ("role", "content", "reasoning_content", "name", "tool_calls", "tool_call_id")
MESSAGE_TYPE = pa.struct([(name, pa.string()) for name in MESSAGE_FIELDS])
FILE_COLUMN = "__file"
LINE_COLUMN = "__line"
ID_COLUMN = "_id"

_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "messages": pa.list_(MESSAGE_TYPE),
    "json": pa.string(),
    "label": pa.bool_(),
}
_TEXTS: dict[DatasetFormat, tuple[str, ...]] = {
    "text": ("text",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired_preference": ("prompt", "completion"),
}


@dataclass(frozen=True)
class Layout:
    """The columns of a dataset."""

    format: DatasetFormat
    conversational: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the columns that hold text or messages."""
        return _TEXTS[self.format]

    @property
    def kinds(self) -> dict[str, Kind]:
        """Column -> kind, in order."""
        text: Kind = "messages" if self.conversational else "text"
        kinds: dict[str, Kind] = dict.fromkeys(self.texts, text)
        if self.format == "unpaired_preference":
            kinds["label"] = "label"
        if self.conversational:
            kinds["tools"] = "json"
        return kinds

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the canonical columns."""
        return pa.schema([(name, _TYPES[kind]) for name, kind in self.kinds.items()])

    def describe(self) -> str:
        """Name the layout for a person."""
        return f"{self.format} ({'conversational' if self.conversational else 'standard'})"


def table_of(layout: Layout, rows: Sequence[Row], files: Sequence[int], lines: Sequence[int]) -> pa.Table:
    """Make a table of canonical rows, with the file's index and the line that each came from."""
    columns = {
        name: pa.array([row.get(name) for row in rows], type=_TYPES[kind])
        for name, kind in layout.kinds.items()
    }
    columns[FILE_COLUMN] = pa.array(files, type=pa.int32())
    columns[LINE_COLUMN] = pa.array(lines, type=pa.int64())
    return pa.table(columns)


def rows_of(layout: Layout, table: pa.Table) -> Iterator[Row]:
    """Yield canonical rows as JSON values: absent fields left out, tool calls as they came."""
    kinds = layout.kinds
    for batch in table.select(list(kinds)).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            yield _open(kinds, row)


def seal_message(message: Row) -> Row:
    """Bring a checked message to the struct's form."""
    if message.get("tool_calls") is None:
        return message
    return {**message, "tool_calls": seal_json(message["tool_calls"])}


def seal_json(value: Any) -> str:
    """Write a JSON value as text, its keys in the order in which they came."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _open(kinds: dict[str, Kind], row: Row) -> Row:
    opened: Row = {}
    for name, kind in kinds.items():
        value = row[name]
        if value is None:
            continue
        if kind == "messages":
            value = [_open_message(message) for message in value]
        elif kind == "json":
            value = json.loads(value)
        opened[name] = value
    return opened


def _open_message(message: Row) -> Row:
    opened = {name: value for name, value in message.items() if value is not None}
    if "tool_calls" in opened:
        opened["tool_calls"] = json.loads(opened["tool_calls"])
        opened.setdefault("content", None)
    return {name: opened[name] for name in MESSAGE_FIELDS if name in opened}
