"""Checkpoints in an object store, beyond the reach of whoever owns the platform's machine."""

from datetime import datetime

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from steelyard.governance.audit.notes import Verifier
from steelyard.governance.audit.publication import PUBLIC_KEY_NAME
from steelyard.kit.errors import Unavailable


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
