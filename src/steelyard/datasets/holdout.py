# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Third pass, over all rows at once but for their text: what goes, and which split the rest is in.

Needs 8 bytes per row for the split's hash, 8 for the group and one key per row and band at a time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steelyard.datasets.buckets import Bucket
from steelyard.datasets.clusters import Clusters
from steelyard.datasets.neighbours import Pairs, find_pairs
from steelyard.datasets.parts import SPLIT_COLUMN
from steelyard.datasets.stages import StageTally
from steelyard.specs.datasets import DatasetSpec, SplitBlock

NEAR_REASON = "nearly equal to another row"
LEAK_REASON = "nearly equal to a validation row"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Holdout:
    """One decision per row, over all buckets in their order."""

    dropped: Mask
    leaking: Mask
    validation: Mask
    near: StageTally
    leak: StageTally
    cluster_sizes: dict[int, int]
    """Size of a group of near-duplicates -> how many groups."""
    clusters: list[list[int]]
    """Rows of the largest groups, a few of each."""


def compare_at(spec: DatasetSpec) -> float | None:
    """Return the least similarity that any stage asks for, or None where none does."""
    wanted = [spec.near_dedup.threshold] if spec.near_dedup.enabled else []
    if spec.split.leak_threshold is not None and spec.split.validation_fraction > 0:
        wanted.append(spec.split.leak_threshold)
    return min(wanted, default=None)


def decide(buckets: Sequence[Bucket], spec: DatasetSpec) -> Holdout:
    """Drop near-duplicates, hold rows out, and drop what leaks from training into validation."""
    count = sum(bucket.rows for bucket in buckets)
    near = StageTally("near_dedup", rows_in=count)
    begun = time.perf_counter()
    pairs = _pairs(buckets, spec)
    groups = _groups(count, pairs, spec)
    dropped = groups.least != np.arange(count)
    near.seconds = time.perf_counter() - begun
    _count(near, dropped, NEAR_REASON)
    validation = _held_out(_split_hashes(buckets), ~dropped, spec.split)
    leaking = _leaks(pairs, dropped, validation, spec)
    leak = StageTally("split_leak", rows_in=count - near.rows_dropped)
    _count(leak, leaking, LEAK_REASON)
    sizes, largest = _largest(groups)
    return Holdout(dropped, leaking, validation, near, leak, sizes, largest)


def _count(tally: StageTally, mask: Mask, reason: str) -> None:
    tally.rows_dropped = int(mask.sum())
    if tally.rows_dropped:
        tally.reasons[reason] = tally.rows_dropped


def _pairs(buckets: Sequence[Bucket], spec: DatasetSpec) -> Pairs:
    least = compare_at(spec)
    files = [bucket.signatures for bucket in buckets if bucket.signatures is not None]
    if least is None or not files:
        nothing = np.zeros(0, dtype=np.int64)
        return Pairs(nothing, nothing, np.zeros(0))
    merge_at = spec.near_dedup.threshold if spec.near_dedup.enabled else 2.0
    return find_pairs(files, least, merge_at)


def _groups(count: int, pairs: Pairs, spec: DatasetSpec) -> Clusters:
    groups = Clusters(count)
    if spec.near_dedup.enabled:
        close = pairs.similarity >= spec.near_dedup.threshold
        groups.join(pairs.left[close], pairs.right[close])
    return groups


def _split_hashes(buckets: Sequence[Bucket]) -> NDArray[np.uint64]:
    columns = [pl.Series(pq.read_table(b.path, columns=[SPLIT_COLUMN]).column(0)).to_numpy() for b in buckets]
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.uint64)


def _held_out(hashes: NDArray[np.uint64], kept: Mask, split: SplitBlock) -> Mask:
    """Take the rows whose hash falls below the fraction; of two rows or more, never none and never all."""
    if not split.validation_fraction:
        return np.zeros(len(hashes), dtype=np.bool_)
    limit = np.uint64(min(int(split.validation_fraction * 2**64), 2**64 - 1))
    validation = kept & (hashes < limit)
    distinct = np.unique(hashes[kept])
    if len(distinct) >= 2 and not validation.any():
        validation = kept & (hashes == distinct[0])
    elif len(distinct) >= 2 and validation.sum() == kept.sum():
        validation &= hashes != distinct[-1]
    return validation


def _leaks(pairs: Pairs, dropped: Mask, validation: Mask, spec: DatasetSpec) -> Mask:
    leaking = np.zeros(len(dropped), dtype=np.bool_)
    threshold = spec.split.leak_threshold
    if threshold is None or not len(pairs.left):
        return leaking
    for one, other in ((pairs.left, pairs.right), (pairs.right, pairs.left)):
        crosses = (pairs.similarity >= threshold) & validation[one] & ~validation[other] & ~dropped[other]
        leaking[other[crosses]] = True
    return leaking


def _largest(groups: Clusters, count: int = 5, members: int = 4) -> tuple[dict[int, int], list[list[int]]]:
    sizes = np.bincount(groups.least, minlength=1)
    distribution = np.bincount(sizes[sizes > 1])
    top = [int(row) for row in np.argsort(-sizes, kind="stable")[:count] if sizes[row] > 1]
    listed = [[int(row) for row in np.flatnonzero(groups.least == first)[:members]] for first in top]
    return {size: int(n) for size, n in enumerate(distribution) if n}, listed
