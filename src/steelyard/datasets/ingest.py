"""The way in: files and a spec become a version under a name."""

import errno
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from obstore.store import LocalStore

from steelyard.datasets.build import ENGINE, Built, Input, Watch, build, prepare
from steelyard.datasets.decontamination import digests_of_sets
from steelyard.datasets.pool import open_pool
from steelyard.datasets.report import save_report
from steelyard.datasets.sources import Source, find_sources
from steelyard.datasets.versions import FileVersions, Published
from steelyard.datasets.work import FORM, lock_folder, remove_folder
from steelyard.kit.canonical import digest_json
from steelyard.kit.errors import InvalidDataset, StorageFull
from steelyard.specs.datasets import DatasetSpec, ParentEntry


@dataclass(frozen=True)
class Request:
    """What is ingested, and how."""

    inputs: Sequence[str | Path]
    spec: DatasetSpec
    store_root: Path
    """Local folder of the object store."""
    work_root: Path
    """Folder of work folders; needs room for twice the input."""
    workers: int | None = None
    """Processes; None: one per core."""
    roots: Sequence[Path] | None = None
    """Folders that inputs must lie in; None: anywhere."""
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path of an input -> what messages call it, where that isn't the path."""
    stdin: BinaryIO | None = None
    evaluation_sets: Mapping[str, Sequence[str]] | None = None
    """Texts of evaluation sets, by name, that rows must not overlap with."""
    parents: Sequence[ParentEntry] = ()
    shards: Sequence[Source] = ()
    """Shards of a version whose rows come before the inputs'."""
    tokenizer: Path | None = None
    """File or folder of the tokenizer that the spec names."""
    waits: bool = False
    """Whether to wait for another process that is at the same ingest; else it is a Conflict."""


def ingest_files(
    inputs: Sequence[str | Path],
    name: str,
    spec: DatasetSpec | None = None,
    *,
    store_root: Path,
    work_root: Path | None = None,
    workers: int | None = None,
    evaluation_sets: Mapping[str, Sequence[str]] | None = None,
    stdin: BinaryIO | None = None,
    tokenizer: Path | None = None,
    watch: Watch | None = None,
) -> Published:
    """Make a version of `name` from files, in a catalogue that is kept as files in the store itself.

    Killed at any moment and called again, it gives the same version once, and reuses finished passes.

    Raises:
        InvalidDataset: the files can't be read, break the schema or mix shapes, or no row is left.
        Conflict: the same ingest runs in another process.
        StorageFull: no room for the work folder or the store.
    """
    request = Request(
        inputs=inputs,
        spec=spec or DatasetSpec(),
        store_root=store_root,
        work_root=work_root or store_root / "work",
        workers=workers,
        stdin=stdin,
        evaluation_sets=evaluation_sets,
        tokenizer=tokenizer,
    )
    built = build_version(request, watch or _ignore)
    return FileVersions(LocalStore(store_root, mkdir=True)).publish(name, built.manifest)


def build_version(request: Request, watch: Watch) -> Built:
    """Build a version without naming it: all shards are in the store, and nothing refers to them yet.

    Raises:
        InvalidDataset: the files can't be read, break the schema or mix shapes, or no row is left.
        Conflict: the same ingest runs in another process.
        StorageFull: no room for the work folder or the store.
    """
    incoming = request.work_root / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=incoming) as scratch:
            return _build(request, Path(scratch), watch)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(request.work_root).free >> 20
        raise StorageFull(
            f"no room on the disk of {request.work_root} ({free} MiB free); an ingest needs about three times"
            " its input"
        ) from error


def _build(request: Request, scratch: Path, watch: Watch) -> Built:
    given = find_sources(
        request.inputs,
        scratch=scratch,
        roots=_roots(request, scratch),
        stdin=request.stdin,
        names=request.names,
    )
    found = Input([*request.shards, *given])
    try:
        prepare(found, request.spec.reading, request.work_root / "spool", scratch, watch)
        built = _build_prepared(found, request, watch)
    except InvalidDataset:
        _unlink(found.spools)
        raise
    _unlink(found.spools)
    return built


def _build_prepared(found: Input, request: Request, watch: Watch) -> Built:
    """What can't become a version leaves no work behind; what was broken off keeps it for the next run."""
    sets = request.evaluation_sets or {}
    folder = request.work_root / _work_key(found.digests, found.names, request, sets)
    with lock_folder(folder, wait=request.waits):
        try:
            with open_pool(request.workers) as pool:
                built = build(
                    found,
                    request.spec,
                    folder=folder,
                    store_root=request.store_root,
                    pool=pool,
                    evaluation_sets=sets,
                    parents=request.parents,
                    tokenizer=request.tokenizer,
                    watch=watch,
                )
            save_report(built, request.store_root)
        except InvalidDataset:
            remove_folder(folder)
            raise
        remove_folder(folder)
    return built


def _unlink(spools: Sequence[Path]) -> None:
    for spooled in spools:
        spooled.unlink(missing_ok=True)


def _roots(request: Request, scratch: Path) -> Sequence[Path] | None:
    """What was downloaded on the way lies in our own folder, and may be read."""
    return None if request.roots is None else [*request.roots, scratch]


def _work_key(
    digests: Sequence[str], names: Sequence[str], request: Request, sets: Mapping[str, Sequence[str]]
) -> str:
    """Names are part of it, because parts remember which file a row came from."""
    key = {
        "engine": ENGINE,
        "form": FORM,
        "input": list(digests),
        "names": list(names),
        "spec": request.spec.model_dump(mode="json"),
        "sets": digests_of_sets(sets),
        "parents": [parent.model_dump(mode="json") for parent in request.parents],
    }
    return digest_json(key).removeprefix("sha256:")


def _ignore(note: object) -> None:
    del note
