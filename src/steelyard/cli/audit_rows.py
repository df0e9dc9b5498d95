"""Rows of the audit trail as text for other programs: all that fit, read page by page over the api."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from steelyard.cli.formats import spreadsheet_cell
from steelyard.kit.paging import Page
from steelyard.specs.audit import AuditEntry

RowFormat = Literal["jsonl", "csv"]


def read_pages(ask: Callable[[str | None], Page[AuditEntry]], after: str | None) -> Iterator[AuditEntry]:
    """Yield all rows, newest first. `ask` returns the page that follows a row, or the first one."""
    while True:
        page = ask(after)
        yield from page.data
        if not page.has_more:
            return
        after = page.next


def write_rows(rows: Iterable[AuditEntry], form: RowFormat) -> None:
    """Write rows to standard output as they come."""
    if form == "jsonl":
        for row in rows:
            sys.stdout.write(row.model_dump_json() + "\n")
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = list(AuditEntry.model_fields)
    writer.writerow(names)
    for row in rows:
        values = row.model_dump(mode="json")
        writer.writerow([_text(values[name]) for name in names])


def _text(value: object) -> object:
    if isinstance(value, str):
        return spreadsheet_cell(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict) else value
