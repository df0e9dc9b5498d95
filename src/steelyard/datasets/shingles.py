# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Word n-grams as hashes, for many texts at once: what near-duplicates and decontamination compare.

Words are runs of letters and digits in lower case, and single characters of CJK scripts. A text's
n-grams are hashed by mixing its words' hashes; a text of fewer than n words is one n-gram. Hashing is
done by numpy over the flat bytes of many texts, and is the same on every machine and with every version
of a library.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_WINDOW_STEP = np.uint64(0xD1342543DE82EF95)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_BATCH_WORDS = 1 << 14
_BATCH_BYTES = 1 << 17
_CJK_LEAD = 2
SET_BITS = np.uint64(44)
"""Bits of a hash in a set: two of a text's thousand n-grams meet by chance once in 30 million texts."""
_BYTE_VALUES: Hashes = np.random.Generator(np.random.PCG64(20240229)).integers(
    1, 2**63, size=256, dtype=np.uint64
) | np.uint64(1)
"""A random odd number for each byte. Part of the engine's rules: another table gives other duplicates."""


@dataclass(frozen=True)
class Shingles:
    """N-gram hashes of many texts: those of text i are `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Offsets


def shingles_of(texts: pl.Series, ngram_words: int) -> Shingles:
    """Hash the word n-grams of each text, in order, repeats included."""
    words, offsets = word_hashes(texts)
    counts = np.diff(offsets)
    kept = np.maximum(counts - ngram_words + 1, np.minimum(counts, 1))
    starts = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum(kept, out=starts[1:])
    whole = counts >= ngram_words
    mixed = mix_windows(words, ngram_words)
    hashes = np.empty(starts[-1], dtype=np.uint64)
    positions = np.arange(starts[-1], dtype=np.int64) + np.repeat(offsets[:-1] - starts[:-1], kept)
    if whole.all():
        return Shingles(mixed[positions], starts)
    from_window = np.repeat(whole, kept)
    hashes[from_window] = mixed[positions[from_window]]
    for row in np.flatnonzero(~whole & (counts > 0)):
        hashes[starts[row]] = mix_windows(words[offsets[row] : offsets[row + 1]], int(counts[row]))[0]
    return Shingles(hashes, starts)


def word_hashes(texts: pl.Series) -> tuple[Hashes, Offsets]:
    """Hash every word of each text; the words of text i are `hashes[offsets[i]:offsets[i + 1]]`."""
    lowered = texts.str.to_lowercase()
    sizes = lowered.str.len_bytes().to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(_BATCH_BYTES, int(ends[-1]) if len(ends) else 0, _BATCH_BYTES))
    bounds = np.unique(np.concatenate([[0], cuts + 1, [len(texts)]]))
    hashes: list[Hashes] = []
    counts: list[Offsets] = []
    for start, stop in pairwise(bounds):
        batch = lowered.slice(int(start), int(stop - start))
        flat = np.frombuffer(str(batch.str.join("\n")[0]).encode(), dtype=np.uint8)
        found, per_text = _hash_batch(flat, sizes[start:stop])
        hashes.append(found)
        counts.append(per_text)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    if counts:
        np.cumsum(np.concatenate(counts), out=offsets[1:])
    return (np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)), offsets


def unique_shingles(shingles: Shingles) -> Shingles:
    """Return the same as sets: sorted within each text, no repeats, each hash cut to 44 bits.

    Args:
        shingles: of fewer than 2^20 texts.
    """
    count = len(shingles.offsets) - 1
    rows = np.repeat(np.arange(count, dtype=np.uint64), np.diff(shingles.offsets))
    tagged = (rows << SET_BITS) | (shingles.hashes >> np.uint64(20))
    tagged.sort()
    first = np.ones(len(tagged), dtype=np.bool_)
    first[1:] = tagged[1:] != tagged[:-1]
    tagged = tagged[first]
    offsets = np.searchsorted(tagged >> SET_BITS, np.arange(count + 1, dtype=np.uint64))
    return Shingles(tagged & ((np.uint64(1) << SET_BITS) - np.uint64(1)), offsets.astype(np.int64))


def _hash_batch(flat: NDArray[np.uint8], sizes: Offsets) -> tuple[Hashes, Offsets]:
    """Hash the words of texts that lie one after the other with a line end between them.

    A word's hash is a polynomial over its bytes modulo 2^64, taken as the difference of two prefix sums
    and brought to the word's own start by the inverse power.
    """
    starts, ends = _word_bounds(flat)
    powers, inverses = _powers(1 << (len(flat) + 1).bit_length())
    sums = np.zeros(len(flat) + 1, dtype=np.uint64)
    np.cumsum(_BYTE_VALUES[flat] * powers[: len(flat)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    text_starts = np.cumsum(sizes + 1) - (sizes + 1)
    edges = np.searchsorted(starts, np.append(text_starts, len(flat) + 1))
    return hashes, np.diff(edges)


def _word_bounds(flat: NDArray[np.uint8]) -> tuple[Offsets, Offsets]:
    """Find words: runs of letters, digits and characters beyond ASCII; each CJK character is one."""
    padded = np.zeros(len(flat) + 2, dtype=np.uint8)
    np.take(_BYTE_KINDS, flat, out=padded[1:-1])
    inside = padded > 0
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[0::2], edges[1::2]
    single = np.flatnonzero(padded[1:-1] == _CJK_LEAD)
    if not len(single):
        return starts, ends
    after = single + 3
    after = after[(after < len(flat)) & inside[1 + np.minimum(after, len(flat) - 1)]]
    begins = np.union1d(starts, np.concatenate([single, after]))
    following = np.append(begins[1:], len(flat))
    return begins, np.minimum(following, ends[np.searchsorted(ends, begins, side="right")])


def _byte_kinds() -> NDArray[np.uint8]:
    kinds = np.zeros(256, dtype=np.uint8)
    for character in b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        kinds[character] = 1
    kinds[0x80:] = 1
    kinds[0xE3:0xEA] = _CJK_LEAD
    return kinds


_BYTE_KINDS = _byte_kinds()


@lru_cache(maxsize=8)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the powers of an odd number, and their inverses, modulo 2^64."""
    base = int(_STEP)
    inverse = pow(base, -1, 2**64)
    powers = np.full(count, np.uint64(base))
    inverses = np.full(count, np.uint64(inverse))
    powers[0] = inverses[0] = np.uint64(1)
    return np.cumprod(powers), np.cumprod(inverses)


def mix_windows(words: Hashes, ngram_words: int) -> Hashes:
    """Return one hash for each run of n words, by Horner's rule, a cacheful at a time."""
    count = max(0, len(words) - ngram_words + 1)
    mixed = np.zeros(count, dtype=np.uint64)
    for start in range(0, count, _BATCH_WORDS):
        piece = mixed[start : start + _BATCH_WORDS]
        for step in range(ngram_words):
            piece *= _WINDOW_STEP
            piece += words[start + step : start + step + len(piece)]
        _finish(piece)
    return mixed


def _finish(hashes: Hashes) -> Hashes:
    """Spread every bit over the word, in place (splitmix64's finaliser)."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes
