# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Lengths of a split's rows, in characters, words, turns and, where a tokenizer is named, tokens.

Histograms have bounds that don't depend on the data (powers of two), so those of many shards add up.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from steelyard.datasets.columns import Layout
from steelyard.datasets.texts import joined_texts, turns_of
from steelyard.kit.errors import InvalidSpec

_BINS = 32


@dataclass
class Histogram:
    """Counts by power of two: bin i holds values v with 2^(i-1) <= v < 2^i; bin 0 holds zero."""

    counts: list[int] = field(default_factory=lambda: [0] * _BINS)
    rows: int = 0
    total: int = 0
    least: int | None = None
    most: int | None = None

    def add(self, values: NDArray[np.int64]) -> None:
        """Count values, each at least 0."""
        if not len(values):
            return
        bins = np.minimum(np.ceil(np.log2(values + 1.0)).astype(np.int64), _BINS - 1)
        self.merge(
            Histogram(
                np.bincount(bins, minlength=_BINS).tolist(),
                len(values),
                int(values.sum()),
                int(values.min()),
                int(values.max()),
            )
        )

    def merge(self, other: "Histogram") -> None:
        """Add another histogram's counts."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.rows += other.rows
        self.total += other.total
        found = [value for value in (self.least, other.least) if value is not None]
        self.least = min(found, default=None)
        found = [value for value in (self.most, other.most) if value is not None]
        self.most = max(found, default=None)


@dataclass
class Measures:
    """Histograms by what is measured: `characters`, `words`, `turns`, `tokens`."""

    histograms: dict[str, Histogram] = field(default_factory=dict[str, Histogram])

    def add(self, name: str, values: NDArray[np.int64]) -> None:
        """Count values of one kind."""
        self.histograms.setdefault(name, Histogram()).add(values)

    def merge(self, other: "Measures") -> None:
        """Add another's histograms."""
        for name, histogram in other.histograms.items():
            self.histograms.setdefault(name, Histogram()).merge(histogram)

    def freeze(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: vars(histogram) for name, histogram in self.histograms.items()}

    @classmethod
    def revive(cls, done: dict[str, Any]) -> "Measures":
        """Make it again from its JSON form."""
        return cls({name: Histogram(**histogram) for name, histogram in done.items()})


def measure(layout: Layout, table: pa.Table, tokenizer: Path | None) -> Measures:
    """Measure a table's rows.

    Args:
        tokenizer: file or folder of the tokenizer whose tokens are counted.
    """
    measures = Measures()
    texts = joined_texts(layout, table)
    measures.add("characters", _numbers(texts.str.len_chars()))
    measures.add("words", _numbers(texts.str.count_matches(r"\S+")))
    if layout.conversational:
        measures.add("turns", _numbers(turns_of(layout, table)))
    if tokenizer is not None:
        encoded = load_tokenizer(tokenizer).encode_batch_fast(texts.to_list(), add_special_tokens=False)
        measures.add("tokens", np.array([len(encoding) for encoding in encoded], dtype=np.int64))
    return measures


@lru_cache(maxsize=2)
def load_tokenizer(place: Path) -> Tokenizer:
    """Read a `tokenizer.json`, given as the file or the folder that holds it.

    Raises:
        InvalidSpec: there is none, or it can't be read.
    """
    path = place / "tokenizer.json" if place.is_dir() else place
    if not path.is_file():
        raise InvalidSpec("the model has no tokenizer.json; name another", param="statistics.tokenizer")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InvalidSpec(
            f"the model's tokenizer.json can't be read ({str(error)[:200]}); name another",
            param="statistics.tokenizer",
        ) from error


def _numbers(series: pl.Series) -> NDArray[np.int64]:
    return series.cast(pl.Int64).to_numpy()
