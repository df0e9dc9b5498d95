"""What an ingest did, for people: JSON, and a page that needs no network.

Reports lie in the store by the version's digest. They show examples of rows, which the digest doesn't
cover, so they are written anew by every ingest of the version.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import obstore
from obstore.store import ObjectStore

from steelyard.datasets.build import Built
from steelyard.datasets.export import head
from steelyard.datasets.measures import Measures
from steelyard.datasets.personal import masked
from steelyard.datasets.report_page import render_page
from steelyard.datasets.stages import EXCERPT_CHARS, StageTally
from steelyard.datasets.store import BlobStore, report_key
from steelyard.kit.canonical import canonical_json
from steelyard.kit.errors import NotFound
from steelyard.specs.datasets import PiiBlock, SplitName, VersionManifest

_SAMPLES = 5
_CUT_CHARS = 100


def save_report(built: Built, store_root: Path) -> None:
    """Write both forms of the report into the store."""
    _put(report_of(built, store_root), store_root)


def save_child_report(
    manifest: VersionManifest, measures: Mapping[SplitName, Measures], store_root: Path
) -> None:
    """Write the report of a version that was derived: what it was made of, its lengths and first rows."""
    report: dict[str, Any] = {
        **_facts_of(manifest, store_root),
        "files": [parent.ref for parent in manifest.parents],
        "stages": [{**stage.model_dump(), "seconds": 0.0, "examples": []} for stage in manifest.stages],
        "lengths": {split: found.freeze() for split, found in measures.items()},
        "cluster_sizes": {},
        "clusters": [],
    }
    _put(report, store_root)


def load_report(store: ObjectStore, digest: str, form: str) -> bytes:
    """Return the report of the version with this digest, as `json` or `html`.

    Raises:
        NotFound: there is none.
    """
    try:
        return bytes(obstore.get(store, report_key(digest, form)).bytes())
    except FileNotFoundError as error:
        raise NotFound("this version has no report; ingest the files again to make one") from error


def report_of(built: Built, store_root: Path) -> dict[str, Any]:
    """Return the report as a JSON value."""
    return {
        **_facts_of(built.manifest, store_root),
        "files": built.names,
        "stages": [_stage(tally, built.names, built.manifest.spec.pii) for tally in built.tallies],
        "lengths": {split: found.freeze() for split, found in built.measures.items()},
        "cluster_sizes": {str(size): count for size, count in built.holdout.cluster_sizes.items()},
        "clusters": built.cluster_texts,
    }


def _facts_of(manifest: VersionManifest, store_root: Path) -> dict[str, Any]:
    """Return what the manifest says, and the first rows."""
    return {
        "digest": manifest.digest,
        "format": manifest.format,
        "columns": manifest.columns,
        "left_out": manifest.left_out,
        "parents": [parent.model_dump(mode="json") for parent in manifest.parents],
        "evaluation_sets": manifest.evaluation_sets,
        "rows_in": manifest.rows_in,
        "rows_kept": manifest.rows_kept,
        "rows_train": manifest.rows_train,
        "rows_validation": manifest.rows_validation,
        "samples": head(manifest, _SAMPLES, store_root=store_root),
        "spec": manifest.spec.model_dump(mode="json"),
    }


def _put(report: dict[str, Any], store_root: Path) -> None:
    store = BlobStore.at(store_root)
    store.put_page(report_key(report["digest"], "json"), canonical_json(report))
    store.put_page(report_key(report["digest"], "html"), render_page(report).encode())


def _stage(tally: StageTally, names: list[str], pii: PiiBlock) -> dict[str, Any]:
    return {
        **tally.report().model_dump(),
        "seconds": round(tally.seconds, 3),
        "examples": [
            {"place": f"{names[example.file]}:{example.line}", "reason": example.reason, "text": text}
            for example, text in zip(tally.examples, _shown(tally, pii), strict=True)
        ],
    }


def _shown(tally: StageTally, pii: PiiBlock) -> list[str]:
    """What may not be in the rows may not be in the report on them, whichever stage dropped it."""
    texts = [example.text for example in tally.examples]
    if pii.action not in ("mask", "drop"):
        return texts
    hidden = masked(texts, pii.kinds)
    # What was cut in the middle looks like nothing: the end of a cut text is not shown.
    return [
        new[:-_CUT_CHARS] if len(old) >= EXCERPT_CHARS else new
        for old, new in zip(texts, hidden, strict=True)
    ]
