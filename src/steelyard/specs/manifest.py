"""The manifest: what makes a folder of files a checkpoint or a model.

It is written last, atomically, after every file it names is on the disk, so its presence says that the
folder is whole; sizes and digests say that it still is.
"""

from typing import Annotated, Literal

from pydantic import Field

from steelyard.kit.canonical import digest_json
from steelyard.specs.base import Message

MANIFEST_NAME = "MANIFEST.json"


class ManifestFile(Message):
    """One file: its size in bytes and its `sha256:<hex>`."""

    size: Annotated[int, Field(ge=0)]
    digest: str


class Manifest(Message):
    """All files of one folder, by path relative to it."""

    version: Literal[1] = 1
    kind: Literal["checkpoint", "model", "tokens"]
    job_id: str
    attempt_id: str
    epoch: int
    """The lease epoch of the attempt that wrote it."""
    step: int
    files: dict[str, ManifestFile]
    created_at: str
    """RFC 3339, UTC."""

    def digest(self) -> str:
        """Digest of the contents alone: equal files give equal digests, whoever wrote them and when."""
        return digest_json({path: file.model_dump() for path, file in self.files.items()})
