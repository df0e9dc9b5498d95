# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Rows that share text with an evaluation set are dropped, or its scores would be worth nothing.

An evaluation text is known by its word n-grams (13 words, as for GPT-3); one with fewer words is known
by all of them as one n-gram, so windows of its length are looked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import Layout
from steelyard.datasets.shingles import Hashes, mix_windows, shingles_of, word_hashes
from steelyard.datasets.stages import Outcome
from steelyard.datasets.texts import joined_texts
from steelyard.kit.canonical import digest_json
from steelyard.specs.datasets import DecontaminationBlock

_MIN_WORDS = 3
"""Evaluation texts with fewer words are not looked for: they would match by chance."""


@dataclass(frozen=True)
class EvaluationIndex:
    """N-grams of all evaluation sets, by length in words, sorted by hash."""

    names: list[str]
    frame: pl.DataFrame
    """Columns: words (length of the n-gram), hash, name (index into `names`), text (number of the text),
    of (n-grams of that text)."""

    @classmethod
    def build(cls, sets: Mapping[str, Sequence[str]], ngram_words: int) -> "EvaluationIndex":
        """Index evaluation texts, by name of the set."""
        names = sorted(sets)
        frames = [_index(number, sets[name], ngram_words) for number, name in enumerate(names)]
        frame = pl.concat(frames) if frames else _EMPTY
        return cls(names, frame.with_columns(text=pl.struct("name", "text").rank("dense").cast(pl.UInt32)))

    @classmethod
    def load(cls, path: Path) -> "EvaluationIndex":
        """Read an index that `save` wrote."""
        frame = pl.read_parquet(path)
        labels = frame.select("name", "label").unique().sort("name")
        return cls(labels["label"].to_list(), frame.drop("label").with_columns(_renumber(labels)))

    def save(self, path: Path) -> None:
        """Write the index for other processes."""
        labels = pl.Series(self.names, dtype=pl.String)
        self.frame.with_columns(label=labels.gather(self.frame["name"])).write_parquet(path)


def digests_of_sets(sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the digest of each evaluation set, its texts in any order."""
    return {name: digest_json(sorted(texts)) for name, texts in sorted(sets.items())}


class Decontamination:
    """Drops rows that hold n-grams of evaluation texts."""

    name = "decontamination"

    def __init__(self, block: DecontaminationBlock, index: EvaluationIndex) -> None:
        self._block = block
        self._names = index.names
        self._by_length = dict(_by_length(index.frame))

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Look for each length of n-gram that the sets have."""
        texts = joined_texts(layout, table)
        words, offsets = word_hashes(texts)
        rows = np.repeat(np.arange(table.num_rows, dtype=np.uint32), np.diff(offsets))
        hits = [self._hits(words, rows, length) for length in self._by_length]
        found = pl.concat(hits).filter(self._enough())
        first = found.group_by("row").agg(pl.col("name").min())
        frame = pl.DataFrame({"row": pl.Series(range(table.num_rows), dtype=pl.UInt32)})
        names = frame.join(first, on="row", how="left", maintain_order="left")["name"]
        reasons = pl.Series([f"overlaps {name}" for name in self._names], dtype=pl.String).gather(names)
        return Outcome(table, reasons)

    def _enough(self) -> pl.Expr:
        shared = pl.col("hash").n_unique().over("row", "text") / pl.col("of")
        return shared >= self._block.min_overlap

    def _hits(
        self, words: Hashes, rows: "np.ndarray[tuple[int], np.dtype[np.uint32]]", length: int
    ) -> pl.DataFrame:
        wanted = self._by_length[length]
        grams = windows_of(words, rows, length)
        return grams.join(wanted, on="hash", how="inner").select("row", "hash", "name", "text", "of")


def windows_of(
    words: Hashes, rows: "np.ndarray[tuple[int], np.dtype[np.uint32]]", length: int
) -> pl.DataFrame:
    """Return the hash of every window of `length` words that lies within one row."""
    from_words = mix_windows(words, length)
    count = len(from_words)
    inside = rows[:count] == rows[length - 1 : length - 1 + count]
    return pl.DataFrame({"row": rows[:count][inside], "hash": from_words[inside]})


def _index(number: int, texts: Sequence[str], ngram_words: int) -> pl.DataFrame:
    shingles = shingles_of(pl.Series(list(texts), dtype=pl.String), ngram_words)
    _, offsets = word_hashes(pl.Series(list(texts), dtype=pl.String))
    counts = np.diff(offsets)
    per_text = np.diff(shingles.offsets)
    frame = pl.DataFrame(
        {
            "words": np.repeat(np.minimum(counts, ngram_words), per_text).astype(np.uint32),
            "hash": shingles.hashes,
            "name": np.full(len(shingles.hashes), number, dtype=np.uint32),
            "text": np.repeat(np.arange(len(texts), dtype=np.uint32), per_text),
        }
    )
    unique = frame.filter(pl.col("words") >= _MIN_WORDS).unique(maintain_order=True)
    return unique.with_columns(of=pl.len().over("text").cast(pl.UInt32))


def _by_length(frame: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    lengths = frame["words"].unique().sort().to_list()
    return [(length, frame.filter(pl.col("words") == length)) for length in lengths]


def _renumber(labels: pl.DataFrame) -> pl.Expr:
    numbers = {old: new for new, old in enumerate(labels["name"].to_list())}
    return pl.col("name").replace_strict(numbers, return_dtype=pl.UInt32)


_EMPTY = pl.DataFrame(
    schema={"words": pl.UInt32, "hash": pl.UInt64, "name": pl.UInt32, "text": pl.UInt32, "of": pl.UInt32}
)
