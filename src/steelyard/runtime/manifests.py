"""Manifests: written last, so that their presence says "whole"; checked, so that damage has a name.

The control plane imports this too. It reads and writes files and nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from steelyard.kit.canonical import digest_file
from steelyard.kit.clock import utc_now
from steelyard.runtime.files import list_files, open_to_readers, sync_directory, sync_file, write_atomically
from steelyard.specs.manifest import MANIFEST_NAME, Manifest, ManifestFile


class DamageKind(StrEnum):
    """What is wrong with a folder."""

    NO_MANIFEST = "no_manifest"
    BAD_MANIFEST = "bad_manifest"
    MISSING = "missing"
    TRUNCATED = "truncated"
    CHANGED = "changed"
    EXTRA = "extra"


@dataclass(frozen=True)
class Damage:
    """The first thing found wrong. `file` is relative to the folder; `message` is a sentence."""

    kind: DamageKind
    file: str
    message: str


def write_manifest(
    folder: Path,
    *,
    kind: Literal["checkpoint", "model", "tokens"],
    job_id: str,
    attempt_id: str,
    epoch: int,
    step: int,
) -> Manifest:
    """Seal a finished folder: make its files readable and durable, then write the manifest over them.

    All of it is on the disk when this returns. The caller owns the folder; nobody may write to it after.
    A manifest that is there already is replaced.

    Raises:
        OSError: the disk is full or the folder can't be written.
    """
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    open_to_readers(folder)
    files: dict[str, ManifestFile] = {}
    directories = {folder}
    for name in list_files(folder):
        path = folder / name
        sync_file(path)
        directories.add(path.parent)
        files[name] = ManifestFile(size=path.stat().st_size, digest=digest_file(path))
    for directory in directories:
        sync_directory(directory)
    manifest = Manifest(
        kind=kind,
        job_id=job_id,
        attempt_id=attempt_id,
        epoch=epoch,
        step=step,
        files=files,
        created_at=utc_now().isoformat(),
    )
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        FileNotFoundError: there is none, so the folder was never finished.
        pydantic.ValidationError: it is not a manifest.
    """
    return Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())


def verify_manifest(folder: Path) -> Damage | None:
    """Compare every file of `folder` with its manifest; return the first damage, or None where all is well.

    Reads all bytes: about a second per gigabyte. Names first, then sizes, then digests.
    """
    try:
        manifest = read_manifest(folder)
    except (FileNotFoundError, NotADirectoryError):
        return _damage(DamageKind.NO_MANIFEST, folder, MANIFEST_NAME, "was never finished, or is gone")
    except ValidationError:
        return _damage(DamageKind.BAD_MANIFEST, folder, MANIFEST_NAME, "is not a manifest")
    if escaping := escaping_file(manifest):
        return _damage(DamageKind.BAD_MANIFEST, folder, escaping, "lies outside the folder")
    return _verify_names(folder, manifest) or _verify_contents(folder, manifest)


def escaping_file(manifest: Manifest) -> str | None:
    """Return the first name that would lie outside of the folder; None where all are inside."""
    return next((name for name in manifest.files if _escapes(name)), None)


def digest_folder(folder: Path) -> str:
    """Return the digest of a folder's files as they are now, by the formula of manifests."""
    files = {
        name: ManifestFile(size=(folder / name).stat().st_size, digest=digest_file(folder / name))
        for name in list_files(folder)
        if name != MANIFEST_NAME
    }
    return Manifest(
        kind="model", job_id="", attempt_id="", epoch=0, step=0, files=files, created_at=""
    ).digest()


def total_size(manifest: Manifest) -> int:
    """Bytes of all files of a folder, without the manifest itself."""
    return sum(file.size for file in manifest.files.values())


def _verify_names(folder: Path, manifest: Manifest) -> Damage | None:
    present = set(list_files(folder)) - {MANIFEST_NAME}
    for name in sorted(set(manifest.files) - present):
        return _damage(DamageKind.MISSING, folder, name, "is missing")
    for name in sorted(present - set(manifest.files)):
        return _damage(DamageKind.EXTRA, folder, name, "is not in the manifest")
    return None


def _verify_contents(folder: Path, manifest: Manifest) -> Damage | None:
    for name, expected in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != expected.size:
            told = f"has {size} bytes in place of {expected.size}"
            return _damage(DamageKind.TRUNCATED, folder, name, told)
    for name, expected in manifest.files.items():
        if digest_file(folder / name) != expected.digest:
            return _damage(DamageKind.CHANGED, folder, name, "has other bytes than when it was written")
    return None


def _damage(kind: DamageKind, folder: Path, name: str, told: str) -> Damage:
    return Damage(kind, name, f"{folder.parent.name}/{folder.name}: {name} {told}")


def _escapes(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts
