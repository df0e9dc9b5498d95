"""What a model was judged by, looked at again: results and their records, suites, figures, checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.datasets.store import BlobStore
from steelyard.kit.canonical import digest_json
from steelyard.registry.checks import compare, lost
from steelyard.registry.model_files import ModelFiles
from steelyard.registry.repository import ModelRecord
from steelyard.registry.statements import byproducts_of
from steelyard.specs.evaluations import LIBRARY_PREFIX, SuiteManifest, library_digest
from steelyard.specs.lineage import LineageCheck
from steelyard.storage.tables import EvaluationRow, SuiteRow

_SUITE = "suite."


def check_results(
    statement: Mapping[str, Any], record: ModelRecord, files: ModelFiles
) -> Iterator[LineageCheck]:
    """Yield a check of everything that the signed statement says of the model's measuring. Blocking: it reads
    every per-sample file and every file of the suites."""
    store = BlobStore.at(files.objects.root)
    rows = {row.digest: row for row in record.evaluations}
    for digest, seen in byproducts_of(statement, "evaluation"):
        row = rows.get(digest)
        yield compare("evaluation", digest, row.digest if row else None, "a result that it was judged by")
        if row is not None:
            yield from _check_result(row, seen, store)
    for digest, _ in byproducts_of(statement, "metrics"):
        yield compare("metrics", digest, digest_json(record.version.metrics), "the figures of the version")
    for digest, _ in byproducts_of(statement, "checkpoint"):
        yield _check_checkpoint(statement, digest, files)
    for name, digest in sorted(record.version.lineage.items()):
        if name.startswith(_SUITE):
            yield _check_suite(name, digest, record.suites.get(digest), store)


def _check_result(row: EvaluationRow, seen: Mapping[str, str], store: BlobStore) -> Iterator[LineageCheck]:
    """Statements of before have no annotations; then the row's digest of the samples is all there is."""
    subject = f"{row.subject}/{row.suite}"
    sealed = seen.get("samples", row.samples_digest)
    fault = store.verify(sealed)
    if fault is not None:
        yield _fault(f"samples/{subject}", sealed, fault)
    else:
        yield compare(f"samples/{subject}", sealed, row.samples_digest, "the database's digest of them")
    if "figures" in seen:
        found = digest_json(row.metrics)
        yield compare(f"figures/{subject}", seen["figures"], found, "what the database has as its figures")


def _check_checkpoint(statement: Mapping[str, Any], digest: str, files: ModelFiles) -> LineageCheck:
    """A checkpoint that was cleared away is no fault: they are kept for training to go on, not for ever."""
    (path,) = (
        each["uri"]
        for each in statement["predicate"]["runDetails"]["byproducts"]
        if each["name"] == "checkpoint"
    )
    folder = _job_folder(files.folder) / path
    damage = files.objects.check_folder(folder, digest)
    if damage is None:
        return compare("checkpoint", digest, digest)
    if damage.kind in ("missing", "no_manifest") and not folder.exists():
        return LineageCheck(
            subject="checkpoint", status="changed_since", sealed=digest, message=f"{path} was cleared away"
        )
    return LineageCheck(subject="checkpoint", status="differs", sealed=digest, message=damage.message)


def _job_folder(model: Path) -> Path:
    """Return the job's folder, that holds `models/E`."""
    return model.parent.parent


def _check_suite(name: str, digest: str, row: SuiteRow | None, store: BlobStore) -> LineageCheck:
    if row is None:
        task = name.removeprefix(_SUITE).replace(".", ":", 1)
        if task.startswith(LIBRARY_PREFIX):
            return compare(name, digest, library_digest(task), "the library's task")
        return lost(name, digest, "its files are not registered any more")
    manifest = SuiteManifest.model_validate(row.manifest)
    for file in manifest.files:
        fault = store.verify(file.digest)
        if fault is not None:
            return _fault(f"{name}/{file.path}", file.digest, fault)
    return compare(name, digest, manifest.digest(), "the list of its files")


def _fault(subject: str, sealed: str, fault: str) -> LineageCheck:
    status = "missing" if fault.endswith("is missing") else "differs"
    return LineageCheck(subject=subject, status=status, sealed=sealed, message=fault)
