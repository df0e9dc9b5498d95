"""A store that was a local folder so far, brought to the bucket: whole, and as often as one likes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.storage.bucket import DamagedFile
from steelyard.storage.object_folder import ObjectFolder

_FOLDERS = (
    f"projects/*/jobs/*/checkpoints/*/*/{MANIFEST_NAME}",
    f"projects/*/jobs/*/models/*/{MANIFEST_NAME}",
)
_FILES = ("reports/*", "projects/*/jobs/*/models/*.intoto.dsse.json")


@dataclass(frozen=True)
class Brought:
    """One file or sealed folder, relative to the store; `fault` says why it isn't in the bucket."""

    path: str
    fault: str | None = None


def bring_everything(objects: ObjectFolder) -> Iterator[Brought]:
    """Bring all artifacts of a folder to its bucket; what is there already is passed quickly.

    Files that nothing was sealed over yet belong to work that goes on, and are left to it.

    Raises:
        BucketUnavailable: try again; it goes on where it was.
    """
    root = objects.root
    for path in sorted(root.glob("blobs/sha256/*/*")):
        yield _bring_file(objects, path, f"sha256:{path.name}")
    for pattern in _FILES:
        for path in sorted(root.glob(pattern)):
            yield _bring_file(objects, path, None)
    for pattern in _FOLDERS:
        for manifest in sorted(root.glob(pattern)):
            yield _bring_folder(objects, manifest.parent)


def _bring_file(objects: ObjectFolder, path: Path, digest: str | None) -> Brought:
    name = str(path.relative_to(objects.root))
    try:
        objects.push_file(path, digest)
    except (DamagedFile, OSError) as error:
        return Brought(name, str(error))
    return Brought(name)


def _bring_folder(objects: ObjectFolder, folder: Path) -> Brought:
    name = str(folder.relative_to(objects.root))
    try:
        objects.push_folder(folder)
    except (DamagedFile, OSError, ValidationError) as error:
        return Brought(name, str(error))
    return Brought(name)
