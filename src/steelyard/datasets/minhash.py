# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""MinHash signatures and their bands (LSH), in files that are read one band at a time.

Two texts share a band with probability 1 - (1 - J^r)^b for Jaccard similarity J, r values per band and
b bands (Leskovec, Rajaraman, Ullman, chapter 3.4). r is the greatest for which texts exactly at the
threshold are found with `_FIND_PROBABILITY`; what is found beside them, the exact comparison refuses.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import rensa
from numpy.typing import NDArray

from steelyard.datasets.shingles import Hashes, Offsets, Shingles, shingles_of
from steelyard.specs.datasets import NearDedupBlock

_FIND_PROBABILITY = 0.985
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BATCH_ROWS = 8192

Signatures = NDArray[np.uint32]


@dataclass(frozen=True)
class SignatureFile:
    """Files of one bucket's signatures. Rows without words have no shingles and take no part."""

    rows: int
    stem: str

    def bands(self) -> "NDArray[np.uint64]":
        """Band keys, (bands, rows), mapped from the disk."""
        return np.load(f"{self.stem}.bands.npy", mmap_mode="r")

    def signatures(self) -> Signatures:
        """Signatures, (rows, permutations), mapped from the disk."""
        return np.load(f"{self.stem}.signatures.npy", mmap_mode="r")

    def shingles(self) -> Shingles:
        """N-gram hashes with repeats, mapped from the disk."""
        hashes: Hashes = np.load(f"{self.stem}.shingles.npy", mmap_mode="r")
        offsets: Offsets = np.load(f"{self.stem}.offsets.npy")
        return Shingles(hashes, offsets)

    def freeze(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"rows": self.rows, "stem": self.stem}

    @classmethod
    def revive(cls, done: dict[str, Any]) -> "SignatureFile":
        """Make it again from its JSON form."""
        return cls(done["rows"], done["stem"])


def band_rows(threshold: float, num_perm: int) -> int:
    """Return r, the signature values per band, for a threshold."""
    fitting = [
        r for r in range(1, num_perm + 1) if find_probability(threshold, r, num_perm) >= _FIND_PROBABILITY
    ]
    return max(fitting, default=1)


def find_probability(jaccard: float, rows_per_band: int, num_perm: int) -> float:
    """Return the probability that two texts share a band."""
    return 1.0 - (1.0 - jaccard**rows_per_band) ** (num_perm // rows_per_band)


def write_signatures(texts: pl.Series, block: NearDedupBlock, threshold: float, stem: Path) -> SignatureFile:
    """Sign each text, and write signatures, bands and shingles beside `stem`."""
    shingles = shingles_of(texts, block.ngram_words)
    signatures = sign(shingles, block.num_perm, block.seed)
    np.save(f"{stem}.shingles.npy", shingles.hashes)
    np.save(f"{stem}.offsets.npy", shingles.offsets)
    np.save(f"{stem}.signatures.npy", signatures)
    np.save(f"{stem}.bands.npy", bands_of(signatures, band_rows(threshold, block.num_perm)))
    return SignatureFile(len(texts), str(stem))


def sign(shingles: Shingles, num_perm: int, seed: int) -> Signatures:
    """Return the MinHash signatures, (texts, permutations)."""
    count = len(shingles.offsets) - 1
    signatures = np.empty((count, num_perm), dtype=np.uint32)
    for start in range(0, count, _BATCH_ROWS):
        stop = min(start + _BATCH_ROWS, count)
        offsets = shingles.offsets[start : stop + 1]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            shingles.hashes[offsets[0] : offsets[-1]],
            (offsets - offsets[0]).astype(np.uint64),
            num_perm=num_perm,
            seed=seed,
        )
        signatures[start:stop] = matrix.to_rows()
    return signatures


def bands_of(signatures: Signatures, rows_per_band: int) -> Hashes:
    """Return one key per band and text, (bands, texts)."""
    bands = signatures.shape[1] // rows_per_band
    keys = np.zeros((bands, signatures.shape[0]), dtype=np.uint64)
    for band in range(bands):
        for column in range(band * rows_per_band, (band + 1) * rows_per_band):
            keys[band] = (keys[band] ^ signatures[:, column]) * _MIX
            keys[band] ^= keys[band] >> np.uint64(29)
    return keys
