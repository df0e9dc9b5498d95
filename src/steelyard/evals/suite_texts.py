"""The texts in a suite's data files: what no training row may share. Pure."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, cast


def texts_of_file(path: str, data: bytes) -> Iterator[str]:
    """Yield the text of each sample of a data file: all its strings together, however they are nested.

    Raises:
        ValueError: the file isn't what its name says.
    """
    text = data.decode("utf-8")
    if path.endswith(".jsonl"):
        yield from (_joined(json.loads(line)) for line in text.splitlines() if line.strip())
    elif path.endswith(".json"):
        yield from _samples(json.loads(text))
    elif path.endswith((".csv", ".tsv")):
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if path.endswith(".tsv") else ",")
        yield from (_joined(row) for row in rows)
    else:
        yield from (line for line in text.splitlines() if line.strip())


def _samples(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from (_joined(each) for each in cast("list[Any]", value))
    elif isinstance(value, dict):
        # `field` names one list of several; all of them are the suite's.
        lists: list[Any] = [each for each in cast("dict[str, Any]", value).values() if isinstance(each, list)]
        if not lists:
            yield _joined(cast("Any", value))
        for each in lists:
            yield from _samples(each)


def _joined(value: Any) -> str:
    return "\n".join(_strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in cast("dict[str, Any]", value).values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _strings(each)
