"""Pairs of rows that are nearly equal: candidates by shared bands, decided by exact Jaccard similarity.

Bands are gone through one at a time, so memory holds one key per row and the pairs found so far. A pair
inside one group of duplicates isn't compared again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.datasets.clusters import Clusters
from steelyard.datasets.minhash import SignatureFile
from steelyard.datasets.shingles import SET_BITS, Shingles, unique_shingles

_CHUNK_PAIRS = 20_000
_MARGIN_DEVIATIONS = 3.5

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Row numbers (left < right, counted over all buckets), and the similarity of each pair."""

    left: Rows
    right: Rows
    similarity: NDArray[np.float64]


def find_pairs(files: Sequence[SignatureFile], least: float, merge_at: float) -> Pairs:
    """Return pairs at least `least` similar.

    Not every pair within a group that is linked by similarities of `merge_at` or more is listed, but
    enough to link the group.
    """
    signed = SignedRows(files)
    clusters = Clusters(signed.count)
    found: list[Pairs] = []
    seen = np.zeros(0, dtype=np.uint64)
    for band in range(signed.bands):
        pairs = candidates(signed.band(band), signed.worded)
        pairs = pairs[~_within(pairs, seen)]
        left, right = (
            (pairs >> np.uint64(32)).astype(np.int64),
            (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64),
        )
        apart = ~clusters.together(left, right)
        verified = signed.compare(left[apart], right[apart], least)
        seen = np.union1d(seen, pairs)
        close = verified.similarity >= merge_at
        clusters.join(verified.left[close], verified.right[close])
        found.append(verified)
    return _concatenate(found)


def candidates(keys: "NDArray[np.uint64]", worded: "NDArray[np.bool_]") -> "NDArray[np.uint64]":
    """Return pairs of rows with equal keys, as `left << 32 | right`, sorted.

    Each row is paired with the first of its group and with the two before it.
    """
    rows = np.flatnonzero(worded)
    order = rows[np.argsort(keys[rows], kind="stable")]
    ordered = keys[order]
    starts = np.ones(len(ordered), dtype=np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(ordered)), 0))
    position = np.arange(len(ordered))
    pairs = [_pair(order, first, position, first < position)]
    pairs.extend(_pair(order, position - back, position, position - back > first) for back in (1, 2))
    return np.unique(np.concatenate(pairs))


class SignedRows:
    """The signatures of all buckets, as one."""

    def __init__(self, files: Sequence[SignatureFile]) -> None:
        self._files = files
        self._starts = np.cumsum([0, *(file.rows for file in files)])
        self.count = int(self._starts[-1])
        self.bands = files[0].bands().shape[0] if files else 0
        self.worded = (
            np.concatenate([np.diff(file.shingles().offsets) > 0 for file in files])
            if files
            else np.zeros(0, dtype=np.bool_)
        )

    def band(self, number: int) -> "NDArray[np.uint64]":
        """Return one band's key of every row."""
        return np.concatenate([np.asarray(file.bands()[number]) for file in self._files])

    def compare(self, left: Rows, right: Rows, least: float) -> Pairs:
        """Return those pairs that are at least `least` similar, with their exact similarity."""
        kept = [
            self._compare_some(left[start : start + _CHUNK_PAIRS], right[start : start + _CHUNK_PAIRS], least)
            for start in range(0, len(left), _CHUNK_PAIRS)
        ]
        return _concatenate(kept)

    def _compare_some(self, left: Rows, right: Rows, least: float) -> Pairs:
        rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        at_left, at_right = places[: len(left)], places[len(left) :]
        signatures = self._signatures(rows)
        agreed = (signatures[at_left] == signatures[at_right]).mean(axis=1)
        likely = agreed >= least - _MARGIN_DEVIATIONS * np.sqrt(0.25 / signatures.shape[1])
        at_left, at_right = at_left[likely], at_right[likely]
        similarity = jaccard(unique_shingles(self._shingles(rows)), at_left, at_right)
        close = similarity >= least
        return Pairs(rows[at_left[close]], rows[at_right[close]], similarity[close])

    def _signatures(self, rows: Rows) -> "NDArray[np.uint32]":
        return np.concatenate([file.signatures()[inside] for file, inside in self._by_file(rows)])

    def _shingles(self, rows: Rows) -> Shingles:
        hashes: list[NDArray[np.uint64]] = []
        counts: list[NDArray[np.int64]] = []
        for file, inside in self._by_file(rows):
            whole = file.shingles()
            starts, sizes = whole.offsets[inside], np.diff(whole.offsets)[inside]
            hashes.append(whole.hashes[_ranges(starts, sizes)])
            counts.append(sizes)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        return Shingles(np.concatenate(hashes), offsets)

    def _by_file(self, rows: Rows) -> list[tuple[SignatureFile, Rows]]:
        cuts = np.searchsorted(rows, self._starts)
        return [
            (file, rows[cuts[index] : cuts[index + 1]] - self._starts[index])
            for index, file in enumerate(self._files)
            if cuts[index + 1] > cuts[index]
        ]


def jaccard(sets: Shingles, left: Rows, right: Rows) -> "NDArray[np.float64]":
    """Return |A and B| / |A or B| for pairs of sets, by their numbers."""
    sizes = np.diff(sets.offsets)
    both = sizes[left] + sizes[right]
    pair = np.arange(len(left), dtype=np.uint64)
    numbers = np.concatenate([np.repeat(pair, sizes[left]), np.repeat(pair, sizes[right])])
    places = np.concatenate(
        [_ranges(sets.offsets[:-1][left], sizes[left]), _ranges(sets.offsets[:-1][right], sizes[right])]
    )
    tagged = (numbers << SET_BITS) | sets.hashes[places]
    tagged.sort()
    twice = tagged[1:] == tagged[:-1]
    shared = np.bincount((tagged[1:][twice] >> SET_BITS).astype(np.int64), minlength=len(left))
    return shared / np.maximum(both - shared, 1)


def _pair(order: Rows, first: Rows, second: Rows, where: "NDArray[np.bool_]") -> "NDArray[np.uint64]":
    left, right = order[first[where]].astype(np.uint64), order[second[where]].astype(np.uint64)
    return (np.minimum(left, right) << np.uint64(32)) | np.maximum(left, right)


def _within(values: "NDArray[np.uint64]", among: "NDArray[np.uint64]") -> "NDArray[np.bool_]":
    """Whether each value is in `among`; both are sorted."""
    if not len(among):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return among[places] == values


def _ranges(starts: Rows, sizes: Rows) -> Rows:
    """Return start, start + 1, ... for each start, one after the other."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)


def _concatenate(pairs: Sequence[Pairs]) -> Pairs:
    if not pairs:
        empty = np.zeros(0, dtype=np.int64)
        return Pairs(empty, empty, np.zeros(0))
    return Pairs(
        np.concatenate([some.left for some in pairs]),
        np.concatenate([some.right for some in pairs]),
        np.concatenate([some.similarity for some in pairs]),
    )
