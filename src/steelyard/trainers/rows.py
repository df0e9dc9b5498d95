"""Reading the rows of a dataset version: JSON Lines, one object a line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import DatasetFormat
from steelyard.specs.methods import METHOD_FORMATS, Method
from steelyard.specs.states import Reason

Row = dict[str, Any]

COLUMNS: dict[DatasetFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired_preference": ("prompt", "completion", "label"),
}
"""Columns that training needs, by format."""


def read_rows(paths: Sequence[str], shape: DatasetFormat, split: str, method: Method = "sft") -> list[Row]:
    """Read all rows of a split, in order.

    Raises:
        RunFailure: a file is missing, a row is not of the format, the method learns from other formats, or
            there is no row at all.
    """
    _require_shape(shape, method)
    rows = [row for path in paths for row in _read_file(Path(path), shape)]
    require_rows(rows, shape, split, method)
    return rows


def require_rows(rows: Sequence[object], shape: DatasetFormat, split: str, method: Method = "sft") -> None:
    """Refuse a split that can't be trained on.

    Raises:
        RunFailure: it holds nothing, or rows of another shape.
    """
    _require_shape(shape, method)
    if not rows:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"The {split} split holds no row: ingest a version with rows, or choose another.",
            param="dataset.ref",
        )


def _require_shape(shape: DatasetFormat, method: Method) -> None:
    fitting = METHOD_FORMATS[method]
    if shape not in fitting:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Method {method} learns from {' or '.join(fitting)} data, not {shape}.",
            param="dataset.format",
        )


def _read_file(path: Path, shape: DatasetFormat) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield parse_row(line, path, number, shape)
    except FileNotFoundError as error:
        raise bad_config(
            Reason.DATASET_NOT_FOUND,
            f"The file {path} of the dataset is not there: ingest the dataset again.",
            param="dataset.ref",
        ) from error


def parse_row(line: str, path: Path, number: int, shape: DatasetFormat) -> Row:
    """Read one line, which is `number` of `path`, counted from 1.

    Raises:
        RunFailure: it is not of the format.
    """
    row: Row = json.loads(line)
    missing = [column for column in COLUMNS[shape] if column not in row]
    if missing:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Line {number} of {path.name} has no {missing[0]!r}: ingest the dataset again with its format.",
            param="dataset.format",
        )
    return row
