"""Files to ingest, and the rows that come back."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

from steelyard.datasets.export import head
from steelyard.datasets.ingest import ingest_files
from steelyard.datasets.versions import Published
from steelyard.specs.datasets import DatasetSpec

Row = dict[str, Any]
PLAIN = DatasetSpec.model_validate_json(
    '{"near_dedup": {"enabled": false}, "split": {"validation_fraction": 0.0}, "pii": {"action": "off"}}'
)
"""No stage that takes rows away but the exact one."""


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def gzipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def zstd_packed(path: Path) -> Path:
    packed = path.with_name(path.name + ".zst")
    packed.write_bytes(zstandard.compress(path.read_bytes()))
    return packed


def spec_of(**blocks: Any) -> DatasetSpec:
    plain = PLAIN.model_dump()
    for name, block in blocks.items():
        plain[name] = plain[name] | block if isinstance(plain.get(name), dict) else block
    return DatasetSpec.model_validate_json(json.dumps(plain))


def ingest(store: Path, *inputs: Path | str, spec: DatasetSpec = PLAIN, **options: Any) -> Published:
    return ingest_files(inputs, "data", spec, store_root=store, workers=1, **options)


def rows_in(store: Path, published: Published, count: int = 1000) -> list[Row]:
    return head(published.manifest, count, store_root=store)


def sorted_rows(rows: Iterable[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)


def stages(published: Published) -> dict[str, tuple[int, int]]:
    """Stage -> rows in, rows dropped."""
    return {stage.name: (stage.rows_in, stage.rows_dropped) for stage in published.manifest.stages}
