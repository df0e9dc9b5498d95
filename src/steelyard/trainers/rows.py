"""Reading the rows of a dataset version: JSON Lines, one object a line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import DatasetFormat
from steelyard.specs.states import Reason

Row = dict[str, Any]

COLUMNS: dict[DatasetFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Columns that supervised fine-tuning needs, by format."""


def read_rows(paths: Sequence[str], shape: DatasetFormat, split: str) -> list[Row]:
    """Read all rows of a split, in order.

    Raises:
        RunFailure: a file is missing, a row is not of the format, or there is no row at all.
    """
    if shape not in COLUMNS:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Supervised fine-tuning takes messages, prompt_completion or text, not {shape}.",
            param="dataset.format",
        )
    rows = [row for path in paths for row in _read_file(Path(path), COLUMNS[shape])]
    if not rows:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"The {split} split holds no row: ingest a version with rows, or choose another.",
            param="dataset.ref",
        )
    return rows


def _read_file(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(line, path, number, columns)
    except FileNotFoundError as error:
        raise bad_config(
            Reason.DATASET_NOT_FOUND,
            f"The file {path} of the dataset is not there: ingest the dataset again.",
            param="dataset.ref",
        ) from error


def _parse(line: str, path: Path, number: int, columns: tuple[str, ...]) -> Row:
    row: Row = json.loads(line)
    missing = [column for column in columns if column not in row]
    if missing:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Line {number} of {path.name} has no {missing[0]!r}: ingest the dataset again with its format.",
            param="dataset.format",
        )
    return row
