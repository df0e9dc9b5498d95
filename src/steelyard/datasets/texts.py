# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""The texts inside a table, seen flat, so that one vectorised call works on all of them.

A messages column is a list of structs; its `content` child is one flat string array. Mapping over it
and putting it back costs no copy of the rest.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from steelyard.datasets.columns import MESSAGE_FIELDS, MESSAGE_TYPE, Layout

TextMap = Callable[[pl.Series], pl.Series]

_FIELD, _MESSAGE, _PART, _NULL, _ESCAPE = "\x1f", "\x1e", "\x1d", "\x15", "\x1c"
_MARKS = {mark: _ESCAPE + letter for mark, letter in zip("\x1c\x1d\x1e\x1f\x15", "abcde", strict=True)}


def map_texts(layout: Layout, table: pa.Table, change: TextMap) -> pa.Table:
    """Return the table with `change` applied to every text and every message's content."""
    for name in layout.texts:
        column = table.column(name).combine_chunks()
        changed = _map_messages(column, change) if layout.conversational else _map_array(column, change)
        table = table.set_column(table.schema.get_field_index(name), name, changed)
    return table


def flat_texts(layout: Layout, table: pa.Table) -> list[tuple[pl.Series, pl.Series]]:
    """Return, for each text column, the index of the row and the text of every piece."""
    pieces: list[tuple[pl.Series, pl.Series]] = []
    for name in layout.texts:
        column = table.column(name).combine_chunks()
        if layout.conversational:
            rows, content = pc.list_parent_indices(column), column.flatten().field("content")
        else:
            rows, content = pa.array(range(len(column)), type=pa.int64()), column
        pieces.append((_series(rows).cast(pl.UInt32), _series(content)))
    return pieces


def joined_texts(layout: Layout, table: pa.Table, columns: tuple[str, ...] | None = None) -> pl.Series:
    """Return each row's texts as one, by line ends."""
    parts = [_joined(layout, table.column(name)) for name in columns or layout.texts]
    return parts[0] if len(parts) == 1 else pl.select(pl.concat_str(parts, separator="\n")).to_series()


def turns_of(layout: Layout, table: pa.Table) -> pl.Series:
    """Return each row's number of messages; 1 where it holds plain text."""
    if not layout.conversational:
        return pl.Series([1], dtype=pl.UInt32).new_from_index(0, table.num_rows)
    counts = [_series(pc.list_value_length(table.column(name))) for name in layout.texts]
    return pl.select(pl.sum_horizontal(counts)).to_series().cast(pl.UInt32)


def row_keys(layout: Layout, table: pa.Table, columns: tuple[str, ...] | None = None) -> pl.Series:
    """Return one string per row that is equal exactly where the rows are equal.

    Fields are joined by separators, and a separator inside a text is escaped, so the key is unambiguous
    and depends on no library's way of writing JSON.
    """
    keys: list[pl.Series] = []
    for name, kind in layout.kinds.items():
        if columns is not None and name not in columns:
            continue
        column = table.column(name).combine_chunks()
        keys.append(_message_keys(column) if kind == "messages" else _leaf_keys(column.cast(pa.string())))
    return keys[0] if len(keys) == 1 else pl.select(pl.concat_str(keys, separator=_FIELD)).to_series()


def digests_of(keys: pl.Series, salt: str = "") -> pl.Series:
    """Return the sha256 of each string, as 32 bytes."""
    start = hashlib.sha256(salt.encode())
    return pl.Series([_digest(start, key) for key in keys.to_list()], dtype=pl.Binary)


def _digest(start: Any, key: str) -> bytes:
    state = start.copy()
    state.update(key.encode())
    return state.digest()


def _series(array: pa.Array | pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _map_array(column: pa.Array, change: TextMap) -> pa.Array:
    return change(_series(column)).to_arrow().cast(pa.string())


def _map_messages(column: pa.Array, change: TextMap) -> pa.Array:
    messages = column.flatten()
    content = _map_array(messages.field("content"), change)
    fields = [content if name == "content" else messages.field(name) for name in MESSAGE_FIELDS]
    return _lists_like(column, pa.StructArray.from_arrays(fields, fields=list(MESSAGE_TYPE)))


def _lists_like(column: pa.Array, values: pa.Array) -> pa.Array:
    offsets = pc.subtract(column.offsets, column.offsets[0])
    return pa.ListArray.from_arrays(offsets, values)


def _joined(layout: Layout, column: pa.ChunkedArray) -> pl.Series:
    if not layout.conversational:
        return _series(column)
    whole = column.combine_chunks()
    content = pc.fill_null(whole.flatten().field("content"), "")
    return _series(pc.binary_join(_lists_like(whole, content), "\n"))


def _leaf_keys(column: pa.Array) -> pl.Series:
    texts = _series(column)
    marked = texts.str.contains(f"[{''.join(_MARKS)}]").fill_null(False)
    if marked.any():
        escaped = texts.str.replace_all(_ESCAPE, _MARKS[_ESCAPE], literal=True)
        for mark, escape in list(_MARKS.items())[1:]:
            escaped = escaped.str.replace_all(mark, escape, literal=True)
        texts = escaped
    return texts.fill_null(_NULL)


def _message_keys(column: pa.Array) -> pl.Series:
    messages = column.flatten()
    leaves = [_leaf_keys(messages.field(name)) for name in MESSAGE_FIELDS]
    keys = pl.select(pl.concat_str(leaves, separator=_PART)).to_series()
    joined = pc.binary_join(_lists_like(column, keys.to_arrow().cast(pa.string())), _MESSAGE)
    return _series(joined)
