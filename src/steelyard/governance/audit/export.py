"""A trail as text: JSON lines that can be verified without the database, or CSV for spreadsheets.

JSON lines: first `{"format": "steelyard-audit/1", "complete": bool}`, then a line for each seal, each
sealed row by its position, and each row that waits to be sealed. A row's leaf is the canonical JSON of its
`row` with `"v": 1` beside the columns (see `leaves`). Only a complete export can be verified.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, cast

from steelyard.governance.audit.leaves import COLUMNS, LeafRow
from steelyard.governance.audit.records import LooseRow, Record, Seal, SealedRow
from steelyard.kit.errors import InvalidRequest

FORMAT = "steelyard-audit/1"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_BINARY = ("root", "link", "frontier")


def header_line(*, complete: bool) -> str:
    """Return the first line of an export."""
    return json.dumps({"format": FORMAT, "complete": complete})


def record_line(record: Record) -> str:
    """Write a record as one line of JSON."""
    match record:
        case Seal():
            return _json({"seal": vars(record) | {name: getattr(record, name).hex() for name in _BINARY}})
        case SealedRow():
            row = dict(record.row) if record.row is not None else None
            place = {"position": record.position, "row_id": record.row_id}
            return _json({**place, "leaf": record.leaf.hex(), "link": record.link.hex(), "row": row})
        case LooseRow():
            return _json({"position": None, "row": dict(record.row)})


def read_export(lines: Iterator[str]) -> Iterator[Record]:
    """Read what was written.

    Raises:
        InvalidRequest: it isn't a complete export; names the line.
    """
    try:
        header = _object(next(lines, ""))
    except (ValueError, TypeError):
        header = {}
    if header.get("format") != FORMAT:
        raise InvalidRequest(
            f"this isn't an export of the format {FORMAT}; `steelyard audit export` makes one"
        )
    if not header.get("complete"):
        raise InvalidRequest("this export leaves rows out, so it can't be verified; export without filters")
    for number, line in enumerate(lines, 2):
        try:
            record = _record(_object(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRequest(f"line {number} of the export can't be read: {error!r}") from error
        yield record


def csv_header() -> str:
    """Return the names of the columns as a line of CSV."""
    return _csv(["position", *COLUMNS])


def csv_line(record: SealedRow | LooseRow) -> str:
    """Write a row as CSV. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    row = record.row or {"id": record.row_id if isinstance(record, SealedRow) else None}
    position = record.position if isinstance(record, SealedRow) else None
    return _csv([position, *(_harmless(row.get(column)) for column in COLUMNS)])


def _record(line: dict[str, Any]) -> Record:
    if "seal" in line:
        seal: dict[str, Any] = dict(line["seal"])
        for name in _BINARY:
            seal[name] = bytes.fromhex(seal[name])
        return Seal(**seal)
    if line["position"] is None:
        return LooseRow(_row(line["row"]))
    row = None if line["row"] is None else _row(line["row"])
    leaf, link = bytes.fromhex(line["leaf"]), bytes.fromhex(line["link"])
    return SealedRow(int(line["position"]), int(line["row_id"]), leaf, link, row)


def _row(columns: dict[str, Any]) -> LeafRow:
    if set(columns) != set(COLUMNS):
        raise ValueError("a row has other columns than a row of this version")
    if not all(value is None or type(value) in (str, int) for value in columns.values()):
        raise ValueError("a column is neither text nor a whole number")
    return columns


def _object(line: str) -> dict[str, Any]:
    value: object = json.loads(line)
    if not isinstance(value, dict):
        raise TypeError("it isn't a JSON object")
    return cast("dict[str, Any]", value)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _csv(values: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


def _harmless(value: int | str | None) -> int | str | None:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
