"""Near-duplicates: recall and precision against exact Jaccard similarity over all pairs."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.datasets.clusters import Clusters
from steelyard.datasets.minhash import band_rows, find_probability, write_signatures
from steelyard.datasets.neighbours import find_pairs
from steelyard.datasets.shingles import shingles_of, word_hashes
from steelyard.specs.datasets import NearDedupBlock

_VOCABULARY = [f"w{number}" for number in range(4000)]


def _edited(words: list[str], rate: float, random_: random.Random) -> list[str]:
    return [random_.choice(_VOCABULARY) if random_.random() < rate else word for word in words]


def _labelled(count: int, seed: int) -> list[str]:
    """Texts and copies of them at edit rates that spread similarity over the whole range."""
    random_ = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = random_.choices(_VOCABULARY, k=random_.randint(40, 200))
        texts.append(" ".join(words))
        for rate in (0.0, 0.01, 0.02, 0.04, 0.08):
            texts.append(" ".join(_edited(words, rate, random_)))
    return texts


def _exact_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    sets = [frozenset(zip(*(text.split()[i:] for i in range(5)), strict=False)) for text in texts]
    return {
        (left, right)
        for left in range(len(sets))
        for right in range(left + 1, len(sets))
        if len(sets[left] & sets[right]) >= threshold * len(sets[left] | sets[right])
    }


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_recall_is_95_percent_and_precision_whole(tmp_path: Path, threshold: float) -> None:
    texts = _labelled(60, seed=7)
    exact = _exact_pairs(texts, threshold)
    assert len(exact) > 150
    block = NearDedupBlock(threshold=threshold)
    file = write_signatures(pl.Series(texts), block, threshold, tmp_path / "s")
    pairs = find_pairs([file], threshold, 2.0)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert found <= exact
    assert len(found & exact) / len(exact) >= 0.95
    groups, wanted = Clusters(len(texts)), Clusters(len(texts))
    groups.join(pairs.left, pairs.right)
    left, right = (np.array(side, dtype=np.int64) for side in zip(*sorted(exact), strict=True))
    wanted.join(left, right)
    dropped = groups.least != np.arange(len(texts))
    should = wanted.least != np.arange(len(texts))
    assert (dropped & should).sum() / should.sum() >= 0.97
    assert not (dropped & ~should).any()


def test_pairs_dont_depend_on_how_rows_are_cut_into_files(tmp_path: Path) -> None:
    texts, block = _labelled(20, seed=3), NearDedupBlock(threshold=0.8)
    whole = find_pairs([write_signatures(pl.Series(texts), block, 0.8, tmp_path / "w")], 0.8, 0.8)
    cuts = [0, 7, 7, 50, len(texts)]
    files = [
        write_signatures(
            pl.Series(texts[start:stop], dtype=pl.String), block, 0.8, tmp_path / f"c{start}-{stop}"
        )
        for start, stop in pairwise(cuts)
    ]
    cut = find_pairs(files, 0.8, 0.8)
    assert sorted(zip(whole.left, whole.right, strict=True)) == sorted(zip(cut.left, cut.right, strict=True))


def test_texts_without_words_are_nobodys_duplicates(tmp_path: Path) -> None:
    texts = pl.Series(["...", "!!!", "", "---"])
    pairs = find_pairs([write_signatures(texts, NearDedupBlock(), 0.8, tmp_path / "s")], 0.8, 0.8)
    assert len(pairs.left) == 0


def test_bands_find_texts_at_the_threshold() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9, 1.0):
        rows = band_rows(threshold, 128)
        assert find_probability(threshold, rows, 128) >= 0.985
        assert rows == 128 or find_probability(threshold, rows + 1, 128) < 0.985


@given(st.lists(st.text(st.sampled_from("ab \n.é中文")), max_size=8))
def test_word_hashes_are_equal_where_words_are(texts: list[str]) -> None:
    hashes, offsets = word_hashes(pl.Series(texts, dtype=pl.String))
    seen: dict[str, int] = {}
    for number, text in enumerate(texts):
        alone, _ = word_hashes(pl.Series([text]))
        assert hashes[offsets[number] : offsets[number + 1]].tolist() == alone.tolist()
        spaced = "".join(f" {c} " if c in "中文" else " " if c in ".\n" else c for c in text)
        words = spaced.split()
        assert len(words) == len(alone)
        for word, value in zip(words, alone.tolist(), strict=True):
            assert seen.setdefault(word, value) == value
    assert len(set(seen.values())) == len(seen)


def test_shingles_of_short_texts_are_the_whole_text() -> None:
    shingles = shingles_of(pl.Series(["one two", "One, two!", "two one", ""]), 5)
    assert shingles.offsets.tolist() == [0, 1, 2, 3, 3]
    assert shingles.hashes[0] == shingles.hashes[1] != shingles.hashes[2]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_clusters_are_the_connected_components(links: list[tuple[int, int]]) -> None:
    groups = Clusters(12)
    for start in range(0, len(links), 4):
        part = links[start : start + 4]
        groups.join(
            np.array([one for one, _ in part], dtype=np.int64),
            np.array([two for _, two in part], dtype=np.int64),
        )
    least = list(range(12))
    for _ in range(12):
        for one, two in links:
            least[one] = least[two] = min(least[one], least[two])
    assert groups.least.tolist() == least
