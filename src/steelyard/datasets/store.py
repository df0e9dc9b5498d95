"""Where shards live: one object store, each object under its own digest.

An object's key follows from the sha256 of its bytes, so putting it twice is putting it once, and a crash
half-way leaves nothing that anybody refers to. Where artifacts belong in a bucket, an object is in it before
its digest is given out, and what this node's folder lacks is fetched (`storage.object_folder`).
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from steelyard.kit.canonical import digest_bytes, digest_file
from steelyard.kit.errors import NotFound, Unavailable
from steelyard.storage.object_folder import ObjectFolder


class BlobStore:
    """Content-addressed files in an object store. Safe for any number of processes at once."""

    def __init__(self, store: ObjectStore, folder: ObjectFolder | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def at(cls, root: Path) -> "BlobStore":
        """Open a store in a local folder; it is made where it isn't there."""
        store = LocalStore(root, mkdir=True)
        return cls(store, ObjectFolder.at(Path(store.prefix or root)))

    @property
    def objects(self) -> ObjectStore:
        """The store itself."""
        return self._store

    def put_file(self, path: Path) -> str:
        """Store a file and return its digest. An object that is there already is looked at, not trusted."""
        digest = digest_file(path)
        key = key_of(digest)
        try:
            obstore.put(self._store, key, path, mode="create")
        except AlreadyExistsError:
            if self._digest_of(key) != digest:
                obstore.put(self._store, key, path, mode="overwrite")
        except BaseError as error:
            raise Unavailable(f"the object store refused {key}: {error}") from error
        self._settle(key, digest)
        return digest

    def put_page(self, key: str, data: bytes) -> None:
        """Store a small object under a name of its own, in place of one that is there."""
        obstore.put(self._store, key, data)
        self._settle(key, digest_bytes(data))

    def fetch_page(self, key: str) -> Path | None:
        """Return the local path of an object that has a name of its own; None where there is none."""
        path = self._local(key)
        if path is None or self._folder is None:
            return path
        return path if self._folder.pull_file(path, None) else None

    def fetch(self, digest: str, folder: Path) -> Path:
        """Return a local path of the object: the object itself where the store is local, else a copy.

        Raises:
            NotFound: the object is gone.
        """
        key = key_of(digest)
        local = self._local(key)
        if local is not None:
            if not self._is_here(local, digest):
                raise NotFound(f"object {digest} is missing from the store; ingest the data again")
            return local
        target = folder / digest.removeprefix("sha256:")
        if not target.exists():
            part = target.with_name(target.name + ".part")
            self._copy(key, digest, part)
            os.replace(part, target)
        return target

    def verify(self, digest: str) -> str | None:
        """Read the object where the truth is, and return what is wrong with it, or None."""
        key = key_of(digest)
        local = self._local(key)
        try:
            if local is not None and self._folder is not None:
                found = self._folder.digest_of(local)
            else:
                found = self._digest_of(key)
        except FileNotFoundError:
            found = None
        if found is None:
            return f"object {digest} is missing"
        return None if found == digest else f"object {digest} is damaged: its bytes now have {found}"

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects of a local store, and from the bucket behind it.

        Raises:
            BucketUnavailable: try again.
        """
        found = [local for key in keys if (local := self._local(key)) is not None]
        if self._folder is not None:
            self._folder.remove_files(found)

    def _is_here(self, local: Path, digest: str) -> bool:
        return local.exists() if self._folder is None else self._folder.pull_file(local, digest)

    def _copy(self, key: str, digest: str, part: Path) -> None:
        try:
            with part.open("wb") as file:
                for block in obstore.get(self._store, key).stream():
                    file.write(bytes(block))
        except FileNotFoundError as error:
            raise NotFound(f"object {digest} is missing from the store; ingest the data again") from error

    def _digest_of(self, key: str) -> str:
        local = self._local(key)
        if local is not None and local.exists():
            return digest_file(local)
        return digest_bytes(bytes(obstore.get(self._store, key).bytes()))

    def _local(self, key: str) -> Path | None:
        prefix = self._store.prefix if isinstance(self._store, LocalStore) else None
        return None if prefix is None else Path(prefix) / key

    def _settle(self, key: str, digest: str) -> None:
        """A local store writes and renames but doesn't sync; do it, so that power loss can't undo it.

        Then bring the object to the bucket: what returns from here may be referred to.
        """
        local = self._local(key)
        if local is None:
            return
        for path in (local, local.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self._folder is not None:
            self._folder.push_file(local, digest)


def key_of(digest: str) -> str:
    """Return the key of the object that has this digest."""
    name = digest.removeprefix("sha256:")
    return f"blobs/sha256/{name[:2]}/{name}"


def report_key(digest: str, form: str) -> str:
    """Return the key of the report of the version with this digest, as `json` or `html`."""
    return f"reports/{digest.removeprefix('sha256:')}.{form}"


def free_bytes(folder: Path) -> int:
    """Return the room left on the folder's disk."""
    return shutil.disk_usage(folder).free
