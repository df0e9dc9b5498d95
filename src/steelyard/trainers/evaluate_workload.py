"""What every suite is to the evaluation: samples in an order, a way to measure some, and figures of all."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from steelyard.kit.canonical import digest_json
from steelyard.specs.evaluations import Figure


@dataclass(frozen=True)
class Record:
    """What one model did with one sample. Everything here is a JSON value, and survives being one."""

    sample_id: str
    """By content: equal ids in two results are the same sample."""
    task: str
    index: int
    """Place of the sample in its task's data."""
    document: str
    """The sample as JSON text."""
    target: str
    output: Any
    values: dict[str, float]
    """Metric -> value of this sample."""
    weights: dict[str, float] = field(default_factory=dict[str, float])
    """Metric -> weight in the mean, where samples don't weigh alike."""
    raw: dict[str, Any] = field(default_factory=dict[str, Any])
    """What an aggregate such as F1 is made from, which has no value for one sample."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


Measure = Callable[[Sequence[int]], list[Record]]
"""Measures the samples at these places, and returns their records in the same order."""


class Workload(ABC):
    """One suite over one model's tokenizer.

    `sample_ids` is in the order in which samples are measured: those of a like length together. Equal
    suites and settings give equal ids in an equal order, whichever process asks.
    """

    suite: str
    sample_ids: list[str]

    @abstractmethod
    def open(self, model: Any) -> Measure:
        """Return what measures samples with `model`. Measuring the same samples again gives equal records."""

    @abstractmethod
    def figures(self, records: Sequence[Record]) -> list[Figure]:
        """Return the figures over all records, however they are ordered."""


def name_samples(contents: Sequence[Any]) -> list[str]:
    """Return an id for each sample by its content; copies of one sample are told apart by number."""
    seen: dict[str, int] = {}
    ids: list[str] = []
    for content in contents:
        digest = digest_json(content)
        copy = seen.get(digest, 0)
        seen[digest] = copy + 1
        ids.append(digest if copy == 0 else digest_json([digest, copy]))
    return ids
