"""The texts in a suite's data files: what no training row may share. Pure."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

_OWN_WORDS = 8
"""A string of so many words says which sample it is from."""


def texts_of_file(path: str, data: bytes) -> Iterator[str]:
    """Yield, for each sample of a data file, all its strings together, and each long one by itself.

    A question alone would else go unseen, as its n-grams with the answers' words are others. Strings that
    several samples share are phrases of the form, not of a sample, and don't stand by themselves.

    Raises:
        ValueError: the file isn't what its name says.
    """
    samples = [list(_strings(sample)) for sample in _samples_of(path, data.decode("utf-8"))]
    uses = Counter(string for sample in samples for string in set(sample))
    for sample in samples:
        yield "\n".join(sample)
        if len(sample) > 1:
            yield from (each for each in sample if uses[each] == 1 and len(each.split()) >= _OWN_WORDS)


def _samples_of(path: str, text: str) -> Iterator[Any]:
    if path.endswith(".jsonl"):
        yield from (json.loads(line) for line in text.splitlines() if line.strip())
    elif path.endswith(".json"):
        yield from _samples(json.loads(text))
    elif path.endswith((".csv", ".tsv")):
        yield from csv.DictReader(io.StringIO(text), delimiter="\t" if path.endswith(".tsv") else ",")
    else:
        yield from (line for line in text.splitlines() if line.strip())


def _samples(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from cast("list[Any]", value)
    elif isinstance(value, dict):
        # `field` names one list of several; all of them are the suite's.
        lists: list[Any] = [each for each in cast("dict[str, Any]", value).values() if isinstance(each, list)]
        if not lists:
            yield value
        for each in lists:
            yield from _samples(each)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in cast("dict[str, Any]", value).values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _strings(each)
