"""The object store as one node sees it: a folder, and behind it the bucket, where there is one.

Without a bucket the folder is the store. With one, the bucket is the truth and the folder is this node's
cache: a file goes to the folder, then to the bucket, and only then may anybody refer to it; what the folder
lacks, or has damaged, comes from the bucket. An object's key is its path below the folder.

A folder of files (a checkpoint, a model) is whole in the bucket once its manifest is there: the manifest is
the last to go in and the first to go out.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from steelyard.kit.canonical import digest_bytes, digest_file
from steelyard.kit.errors import NotFound, StorageFull
from steelyard.runtime.files import sync_directory
from steelyard.runtime.folder_lock import hold
from steelyard.runtime.manifests import Damage, DamageKind, escaping_file, read_manifest, verify_manifest
from steelyard.specs.manifest import MANIFEST_NAME, Manifest
from steelyard.storage.bucket import PARTS_FOLDER, Bucket, DamagedFile, bucket_of_environment


@dataclass(frozen=True)
class ObjectFolder:
    """Blocking; call it from a thread. Safe for any number of threads and processes at once."""

    root: Path
    bucket: Bucket | None

    @classmethod
    def at(cls, root: Path) -> "ObjectFolder":
        """Return the store whose folder on this node is `root`, with the bucket of the environment."""
        return cls(root, bucket_of_environment())

    def push_file(self, path: Path, digest: str | None = None) -> None:
        """Bring a finished file to the bucket; nothing to do where there is none.

        Raises:
            BucketUnavailable, DamagedFile: it isn't there; the local file stays.
        """
        if self.bucket is not None:
            self.bucket.put_file(self._key(path), path.parent, path.name, digest or digest_file(path))

    def pull_file(self, path: Path, digest: str | None) -> bool:
        """Have a file here; return whether it is.

        Args:
            digest: what its bytes are held to, where there is a bucket. None: they are taken as they are.

        Raises:
            BucketUnavailable, StorageFull: it isn't here, and may be later.
            DamagedFile: what the bucket has isn't what it should be.
        """
        if self.bucket is None:
            return path.is_file()
        if path.is_file() and (digest is None or digest_file(path) == digest):
            return True
        try:
            self.bucket.fetch_file(self._key(path), path, digest, self.root / PARTS_FOLDER)
        except NotFound:
            return False
        return True

    def digest_of(self, path: Path) -> str | None:
        """Return the digest of a file where the truth is; None where it isn't there.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        if self.bucket is not None:
            return self.bucket.digest_of(self._key(path))
        return digest_file(path) if path.is_file() else None

    def remove_files(self, paths: Sequence[Path]) -> None:
        """Remove files from the bucket, then here.

        Raises:
            BucketUnavailable: try again.
        """
        if self.bucket is not None:
            self.bucket.remove(self._key(path) for path in paths)
        for path in paths:
            path.unlink(missing_ok=True)

    def push_folder(self, folder: Path, target: Path | None = None) -> None:
        """Bring a sealed folder to the bucket; when this returns it is whole there. Repeated, it goes on.

        Args:
            target: the folder that it stands for, where `folder` is only a copy of it.

        Raises:
            BucketUnavailable: try again.
            DamagedFile: a file isn't what the manifest says; the folder isn't in the bucket.
            OSError, pydantic.ValidationError: `folder` is no sealed folder.
        """
        if self.bucket is None:
            return
        key = self._key(target or folder)
        manifest = read_manifest(folder)
        if (name := escaping_file(manifest)) is not None:
            raise DamagedFile(f"{folder}: its manifest names {name}, which lies outside of it")
        present = self._manifest_in_bucket(self.bucket, key)
        if present == manifest:
            return
        if present is not None:
            self.bucket.remove([f"{key}/{MANIFEST_NAME}"])
        wanted = {f"{key}/{name}": name for name in manifest.files}
        # Left by one that was written here before, or by an upload that was cut short.
        self.bucket.remove(set(self.bucket.keys(key)) - wanted.keys())
        for place, name in wanted.items():
            self.bucket.put_file(place, folder, name, manifest.files[name].digest)
        self.bucket.put_bytes(f"{key}/{MANIFEST_NAME}", manifest.model_dump_json(indent=1).encode())

    def check_folder(self, folder: Path, digest: str) -> Damage | None:
        """Read every byte of a folder where the truth is; return what is wrong with it.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        if self.bucket is None:
            return _verify(folder, digest)
        key = self._key(folder)
        manifest = self._manifest_in_bucket(self.bucket, key)
        if manifest is None:
            told = f"{folder.parent.name}/{folder.name} is not whole in the object store: it has no manifest"
            return Damage(DamageKind.NO_MANIFEST, MANIFEST_NAME, told)
        if manifest.digest() != digest:
            return _not_published(folder)
        there = {name.removeprefix(f"{key}/") for name in self.bucket.keys(key)}
        for name in sorted(there - {MANIFEST_NAME, *manifest.files}):
            return Damage(DamageKind.EXTRA, name, f"{folder.name}: {name} is not in the manifest")
        for name, file in manifest.files.items():
            if (found := self.bucket.digest_of(f"{key}/{name}")) != file.digest:
                kind, told = (
                    (DamageKind.MISSING, "is missing from the object store")
                    if found is None
                    else (DamageKind.CHANGED, "has other bytes in the object store than when it was written")
                )
                return Damage(kind, name, f"{folder.parent.name}/{folder.name}: {name} {told}")
        return None

    def pull_folder(self, folder: Path, digest: str | None) -> Damage | None:
        """Have a sealed folder here, byte for byte; return what is wrong with it where that can't be.

        Args:
            digest: of the manifest that was published. None: whatever the manifest that is there says.

        Raises:
            BucketUnavailable, StorageFull: it isn't here, and may be later.
        """
        damage = _verify(folder, digest)
        if damage is None or self.bucket is None or not folder.is_relative_to(self.root):
            return damage
        key = self._key(folder)
        manifest = self._manifest_in_bucket(self.bucket, key)
        if manifest is None:
            return damage
        if digest not in (None, manifest.digest()) or escaping_file(manifest):
            return _not_published(folder)
        parts = self.root / PARTS_FOLDER
        parts.mkdir(parents=True, exist_ok=True)
        with hold(parts / digest_bytes(key.encode())[7:], wait=True):
            if _verify(folder, digest) is None:
                return None
            try:
                self._fetch(self.bucket, key, manifest, folder)
            except (NotFound, DamagedFile) as error:
                return Damage(DamageKind.CHANGED, folder.name, error.message)
            return _verify(folder, digest)

    def sealed_below(self, folder: Path) -> dict[Path, Manifest]:
        """Return the folders below this one that are whole in the bucket, with their manifests.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        if self.bucket is None:
            return {}
        keys = [key for key in self.bucket.keys(self._key(folder)) if key.endswith(f"/{MANIFEST_NAME}")]
        places = [key.removesuffix(f"/{MANIFEST_NAME}") for key in keys]
        found = {self.root / place: self._manifest_in_bucket(self.bucket, place) for place in places}
        return {path: manifest for path, manifest in found.items() if manifest is not None}

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder from the bucket, its manifest first, then here.

        Raises:
            BucketUnavailable: try again.
        """
        if self.bucket is not None:
            key = self._key(folder)
            self.bucket.remove([f"{key}/{MANIFEST_NAME}"])
            self.bucket.remove(self.bucket.keys(key))
        shutil.rmtree(folder, ignore_errors=True)

    def sweep_parts(self, oldest: float) -> None:
        """Remove what fetches that were given up left behind, last touched before `oldest` (Unix time)."""
        for path in (self.root / PARTS_FOLDER).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _fetch(self, bucket: Bucket, key: str, manifest: Manifest, folder: Path) -> None:
        parts = self.root / PARTS_FOLDER
        fetched = parts / uuid.uuid4().hex
        try:
            for name, file in manifest.files.items():
                bucket.fetch_file(f"{key}/{name}", fetched / name, file.digest, parts)
            bucket.fetch_file(f"{key}/{MANIFEST_NAME}", fetched / MANIFEST_NAME, None, parts)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                os.replace(folder, parts / f"{fetched.name}.old")
            os.replace(fetched, folder)
            sync_directory(folder.parent)
        except OSError as error:
            raise StorageFull(f"can't write {folder}: {error}; free some room") from error
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
            shutil.rmtree(parts / f"{fetched.name}.old", ignore_errors=True)

    def _manifest_in_bucket(self, bucket: Bucket, key: str) -> Manifest | None:
        data = bucket.read_bytes(f"{key}/{MANIFEST_NAME}")
        if data is None:
            return None
        with contextlib.suppress(ValidationError):
            return Manifest.model_validate_json(data)
        return None

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _verify(folder: Path, digest: str | None) -> Damage | None:
    damage = verify_manifest(folder)
    if damage is not None or digest is None:
        return damage
    with contextlib.suppress(OSError, ValidationError):
        if read_manifest(folder).digest() == digest:
            return None
    return _not_published(folder)


def _not_published(folder: Path) -> Damage:
    told = f"{folder.parent.name}/{folder.name}: the manifest is not the one that was published"
    return Damage(DamageKind.BAD_MANIFEST, MANIFEST_NAME, told)
