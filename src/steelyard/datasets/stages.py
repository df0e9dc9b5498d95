# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""The contract of stages that look at one row at a time, and the loop that runs them over a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import FILE_COLUMN, LINE_COLUMN, Layout
from steelyard.datasets.texts import joined_texts
from steelyard.specs.datasets import StageReport

MAX_EXAMPLES = 5
EXCERPT_CHARS = 320


@dataclass(frozen=True)
class Example:
    """A row that a stage dropped or found something in."""

    file: int
    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a stage says about a table."""

    table: pa.Table
    """The rows, perhaps altered; the same number, in the same order."""
    drop: pl.Series | None = None
    """Per row, why it is dropped, or null. None: nothing is."""
    changed: int = 0
    """Rows altered."""
    noted: dict[str, int] = field(default_factory=dict[str, int])
    """Findings in rows that stay -> how many rows."""


class RowStage(Protocol):
    """One stage. It must be a pure function of each row, so that no batching changes the result.

    Attributes:
        name: what reports call it.
    """

    name: str

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Look at a table of at least one row."""
        ...


@dataclass
class StageTally:
    """Counts of one stage over many tables. Adding is commutative; examples are kept by place."""

    name: str
    rows_in: int = 0
    rows_dropped: int = 0
    changed: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    examples: list[Example] = field(default_factory=list[Example])
    seconds: float = 0.0
    bytes: int = 0

    def add(self, other: "StageTally") -> None:
        """Add another tally of the same stage."""
        self.rows_in += other.rows_in
        self.rows_dropped += other.rows_dropped
        self.changed += other.changed
        self.seconds += other.seconds
        self.bytes += other.bytes
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        merged = sorted([*self.examples, *other.examples], key=lambda example: (example.file, example.line))
        self.examples = merged[:MAX_EXAMPLES]

    def report(self) -> StageReport:
        """Return the part that a version's digest covers."""
        return StageReport(
            name=self.name,
            rows_in=self.rows_in,
            rows_kept=self.rows_in - self.rows_dropped,
            rows_dropped=self.rows_dropped,
            reasons=dict(sorted(self.reasons.items())),
            changed=self.changed,
        )


def apply(stage: RowStage, layout: Layout, table: pa.Table, tally: StageTally) -> pa.Table:
    """Run one stage over a table, count into `tally`, and return the rows that stay."""
    if table.num_rows == 0:
        return table
    outcome = stage.run(layout, table)
    tally.rows_in += table.num_rows
    tally.changed += outcome.changed
    for reason, count in outcome.noted.items():
        tally.reasons[reason] = tally.reasons.get(reason, 0) + count
    if outcome.drop is None or outcome.drop.null_count() == len(outcome.drop):
        return outcome.table
    return _drop(layout, outcome.table, outcome.drop, tally)


def examples_of(layout: Layout, table: pa.Table, reasons: Sequence[str]) -> list[Example]:
    """Make examples of the first rows of a table."""
    head = table.slice(0, MAX_EXAMPLES)
    texts = joined_texts(layout, head).to_list()
    files, lines = head.column(FILE_COLUMN).to_pylist(), head.column(LINE_COLUMN).to_pylist()
    return [
        Example(file, line, reason, text[:EXCERPT_CHARS])
        for file, line, reason, text in zip(files, lines, reasons, texts, strict=False)
    ]


def _drop(layout: Layout, table: pa.Table, drop: pl.Series, tally: StageTally) -> pa.Table:
    gone = drop.is_not_null()
    tally.rows_dropped += int(gone.sum())
    for reason, count in drop.drop_nulls().value_counts().iter_rows():
        tally.reasons[reason] = tally.reasons.get(reason, 0) + count
    if len(tally.examples) < MAX_EXAMPLES:
        mask = gone.to_arrow().cast(pa.bool_())
        found = examples_of(layout, table.filter(mask), drop.drop_nulls().to_list())
        tally.examples.extend(found[: MAX_EXAMPLES - len(tally.examples)])
    return table.filter((~gone).to_arrow().cast(pa.bool_()))
