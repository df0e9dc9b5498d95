"""Where signed checkpoints are kept outside of the database, so that whoever owns that can't rewrite both."""

# obstore's exceptions are typed, its `put` takes unions that strict mode can't see through.
# pyright: reportUnknownMemberType=false

from datetime import datetime
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from steelyard.governance.audit.notes import Verifier
from steelyard.kit.errors import Unavailable
from steelyard.runtime.files import write_atomically

PUBLIC_KEY_NAME = "audit.pub"
LATEST_NAME = "latest.checkpoint"
_MODE = 0o644


class Shelf(Protocol):
    """A place for checkpoints. Calls block; publishing the same checkpoint twice changes nothing."""

    def latest(self) -> str | None:
        """Return the note that was published last; None where that isn't known here."""
        ...

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        """Keep a note.

        Raises:
            Unavailable, OSError: it couldn't be kept.
        """
        ...


class CheckpointFolder:
    """A folder with `latest.checkpoint`, the last one of each hour, and the public key `audit.pub`.

    Hourly ones are never removed: 24 files of 250 bytes a day. For one writer at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> str | None:
        """Return the newest note."""
        try:
            return (self._folder / LATEST_NAME).read_text()
        except FileNotFoundError:
            return None

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        """Write the hour's file and then the newest, each in one durable move."""
        del size
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        key = self._folder / PUBLIC_KEY_NAME
        if not key.exists():
            write_atomically(key, f"{verifier}\n".encode(), _MODE)
        write_atomically(self._folder / f"{moment:%Y-%m-%dT%HZ}.checkpoint", note.encode(), _MODE)
        write_atomically(self._folder / LATEST_NAME, note.encode(), _MODE)


class CheckpointBucket:
    """A prefix of an object store, one object for each checkpoint, never overwritten.

    With object lock (compliance mode and a default retention on the bucket) nobody, its owner included, can
    remove a checkpoint before its time: then a rewritten database is found even by someone who has lost
    every other copy. That mode is the bucket's setting, and is untested here; so is any store but a local
    folder. Puts are conditional (`If-None-Match: *`), with SHA-256 checksums as S3's object lock demands.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def from_url(cls, url: str) -> "CheckpointBucket":
        """Return the bucket at `s3://bucket/prefix`, `gs://...`, `az://...` or `file:///...`."""
        if url.startswith("s3://"):
            return cls(from_url(url, config={"checksum_algorithm": "SHA256"}))
        return cls(from_url(url))

    def latest(self) -> str | None:
        """Return None: a listing of a locked bucket is for auditors, not for each round of sealing."""
        return None

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        """Put the note under its size, and the public key beside it."""
        del moment
        self._put_once(PUBLIC_KEY_NAME, f"{verifier}\n")
        self._put_once(f"{size:020}.checkpoint", note)

    def _put_once(self, name: str, text: str) -> None:
        try:
            obstore.put(self._store, name, text.encode(), mode="create")
        except AlreadyExistsError:
            return
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"a checkpoint could not be put into the object store: {error}; it is tried again"
            ) from error
