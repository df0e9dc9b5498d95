"""Per-sample values, read from the object store, and joined where two models saw the same samples."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.datasets.store import BlobStore
from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import MetricEvidence, SamplesReference
from steelyard.specs.evaluations import Figure


@dataclass(frozen=True)
class SampleValues:
    """Values of one metric, in the file's order; `weights` are 1 where samples weigh alike."""

    ids: list[str]
    values: list[float]
    weights: list[float]


class SampleReader:
    """Reads per-sample files. Blocking: call it from a thread."""

    def __init__(self, store_root: Path) -> None:
        self._store_root = store_root

    def read(self, reference: SamplesReference) -> SampleValues:
        """Return the values of one metric.

        Raises:
            NotFound: the file is gone from the store.
        """
        names = ["sample_id", reference.column]
        if reference.weight_column is not None:
            names.append(reference.weight_column)
        columns = self._columns(reference.digest, names)
        rows = [
            (sample_id, value, weight)
            for sample_id, value, weight in zip(
                columns["sample_id"],
                columns[reference.column],
                columns[reference.weight_column] if reference.weight_column else columns["sample_id"],
                strict=True,
            )
            if value is not None
        ]
        weighted = reference.weight_column is not None
        return SampleValues(
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] if weighted else 1.0 for row in rows],
        )

    def pairs(self, model: MetricEvidence, incumbent: MetricEvidence) -> Pairs | None:
        """Return the values of the samples that both have, in one order; None where there are none."""
        if model.samples is None or incumbent.samples is None:
            return None
        mine, theirs = self.read(model.samples), self.read(incumbent.samples)
        known = {sample_id: place for place, sample_id in enumerate(theirs.ids)}
        common = [(place, known[each]) for place, each in enumerate(mine.ids) if each in known]
        if not common:
            return None
        weighted = model.samples.weight_column is not None
        return Pairs(
            np.array([mine.values[a] for a, _ in common]),
            np.array([theirs.values[b] for _, b in common]),
            np.array([mine.weights[a] for a, _ in common]) if weighted else None,
            np.array([theirs.weights[b] for _, b in common]) if weighted else None,
        )

    def file_of(self, digest: str) -> Path:
        """Return a per-sample file.

        Raises:
            NotFound: it is gone from the store.
        """
        folder = Path(tempfile.gettempdir())
        return BlobStore.at(self._store_root).fetch(digest, folder)

    def _columns(self, digest: str, names: list[str]) -> dict[str, list[Any]]:
        with tempfile.TemporaryDirectory() as folder:
            path = BlobStore.at(self._store_root).fetch(digest, Path(folder))
            return read_columns(path, names)


def columns_of(path: Path, figures: Sequence[Figure]) -> dict[str, list[float | None]]:
    """Return the columns of a per-sample file that figures are made of."""
    names = {name for each in figures for name in (each.column, each.weight_column) if name is not None}
    return read_columns(path, sorted(names))


def read_columns(path: Path, names: list[str]) -> dict[str, list[Any]]:
    """Read columns of a Parquet file."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - costs every process a quarter of a second at its start

    return pq.read_table(path, columns=names).to_pydict() if names else {}
