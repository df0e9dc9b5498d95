"""Checkpoints in an object store, beyond the reach of whoever owns the platform's machine."""

from datetime import datetime

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from steelyard.governance.audit.notes import Verifier
from steelyard.governance.audit.publication import PUBLIC_KEY_NAME
from steelyard.kit.errors import TamperedTrail, Unavailable


class CheckpointBucket:
    """A prefix of an object store, one object for each checkpoint, never overwritten.

    With object lock (compliance mode and a default retention on the bucket) nobody, its owner included, can
    remove a checkpoint before its time: then a rewritten database is found even by someone who has lost
    every other copy. That mode is the bucket's setting. Puts are conditional (`If-None-Match: *`), with
    SHA-256 checksums as S3's object lock demands. Who has other rights to the bucket can put a newer version
    over an object, but not take the oldest one away: that is the one to believe.
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
        """Put the note under its size, and the public key beside it.

        Raises:
            TamperedTrail: another note of this size, or the key of another log, is there.
            Unavailable: try again.
        """
        del moment
        self._put_once(PUBLIC_KEY_NAME, f"{verifier}\n", "the bucket's prefix is that of another key's log")
        problem = f"another checkpoint over {size} rows was put into the bucket before"
        self._put_once(f"{size:020}.checkpoint", note, problem)

    def _put_once(self, name: str, text: str, problem: str) -> None:
        """Put an object that isn't there. Signing is deterministic: what was put before must be the same."""
        try:
            obstore.put(self._store, name, text.encode(), mode="create")
        except AlreadyExistsError as error:
            if self._read(name) != text.encode():
                raise TamperedTrail(
                    f"{problem}. Nothing more is published: `steelyard audit verify` with that checkpoint"
                    " finds out what was changed; a log that begins anew on purpose needs a prefix of its own"
                ) from error
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"a checkpoint could not be put into the object store: {error}; it is tried again"
            ) from error

    def _read(self, name: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"a checkpoint in the object store could not be read: {error}; it is tried again"
            ) from error
