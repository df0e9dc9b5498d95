"""Where a registered model's files are on this node, and whether they are what was registered.

A version's row names the folder on the node that registered it. Behind a bucket any node can have it: at the
same place below its own folder of objects.
"""

from dataclasses import dataclass
from pathlib import Path

from steelyard.registry.sealing import statement_file
from steelyard.runtime.manifests import Damage
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.tables import ModelVersionRow

_TOP = "projects"


@dataclass(frozen=True)
class ModelFiles:
    """One version's files. Blocking; call it from a thread."""

    folder: Path
    digest: str
    objects: ObjectFolder

    def pull(self) -> Damage | None:
        """Have the files on this node, byte for byte; return what is wrong where that can't be.

        Raises:
            BucketUnavailable, StorageFull: they aren't here, and may be later.
        """
        return self.objects.pull_folder(self.folder, self.digest)

    def check(self) -> Damage | None:
        """Read every byte where the truth is: in the bucket, where there is one.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        return self.objects.check_folder(self.folder, self.digest)

    def statement_digest(self) -> str | None:
        """Return the digest of the statement that lies beside the files; None where there is none.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        return self.objects.digest_of(statement_file(self.folder))


def model_files(version: ModelVersionRow, objects: Path | None = None) -> ModelFiles:
    """Return the files of a version. Blocking, where a bucket has to be opened.

    Args:
        objects: this node's folder of objects. None: the one that the version was registered from.
    """
    recorded = Path(version.path)
    below = _below(recorded)
    if below is None:
        return ModelFiles(recorded, version.manifest_digest, ObjectFolder(recorded.parent, None))
    root = objects or recorded.parents[len(below.parts) - 1]
    return ModelFiles(root / below, version.manifest_digest, ObjectFolder.at(root))


def folder_of(version: ModelVersionRow, objects: Path) -> Path:
    """Return where a version's files belong on this node. Reads nothing."""
    recorded = Path(version.path)
    below = _below(recorded)
    return recorded if below is None else objects / below


def _below(recorded: Path) -> Path | None:
    """Return the path below the folder of objects: `projects/P/jobs/J/models/E`."""
    parts = recorded.parts
    for place in range(len(parts) - 5, -1, -1):
        if parts[place] == _TOP and parts[place + 2] == "jobs":
            return Path(*parts[place:])
    return None
