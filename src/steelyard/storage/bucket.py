"""One bucket of an S3 store: whole files in and out, each with a digest, each encrypted as it was set.

Blocking; call it from a thread. Memory is bounded: a file is read in blocks of 8 MiB, of which four are on
their way at once.
"""

import errno
import functools
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store
from typing_extensions import Buffer

from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import NotFound, SteelyardError, StorageFull, Unavailable
from steelyard.runtime.files import FILE_MODE, open_inside, sync_directory
from steelyard.storage.bucket_settings import PREFIX, BucketSettings, read_settings, uses_bucket

PARTS_FOLDER = ".parts"
"""Below a cache's root: files that are being fetched. What is old in there was given up."""

_BLOCK_BYTES = 8 << 20
_BLOCKS_AT_ONCE = 4
_MOST_PARTS = 9_000
_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_DIGEST = "steelyard-digest"
_ENCRYPTION = "steelyard-encryption"
_AWS_PREFIX = "AWS_"
_log = structlog.get_logger()


class BucketUnavailable(Unavailable):
    """The bucket doesn't answer, or refuses us. Nothing is lost: what is local stays."""

    code = "object_store_unavailable"


class DamagedFile(SteelyardError):
    """A file's bytes aren't those of its digest, here or in the bucket."""

    code = "object_damaged"


class Bucket:
    """A prefix of a bucket. Safe for any number of threads and processes.

    Args:
        store: writes with the encryption that `label` names.
        url: for people; holds no secret.
    """

    def __init__(self, store: S3Store, url: str, label: str) -> None:
        self._store = store
        self._url = url
        self._label = label

    @classmethod
    def open(cls, settings: BucketSettings, *, patient: bool = True) -> "Bucket":
        """Open the bucket of the settings; nothing is asked of it yet.

        Args:
            patient: whether a request is tried again, for a minute, where the store doesn't answer.

        Client options would hide the environment's, such as AWS_ALLOW_HTTP.

        Raises:
            BucketMisconfigured: the settings can't be right.
        """
        url = settings.url or ""
        config = cast("Any", {"checksum_algorithm": "SHA256", **settings.headers()})
        retries: Any = _RETRIES if patient else {"max_retries": 0}
        return cls(S3Store.from_url(url, config=config, retry_config=retries), url, settings.label)

    @property
    def url(self) -> str:
        """Where it is: `s3://BUCKET/PREFIX`."""
        return self._url

    @property
    def store(self) -> S3Store:
        """The store below."""
        return self._store

    def put_file(self, key: str, folder: Path, name: str, digest: str) -> None:
        """Store a file whole or not at all. One that is there with this digest and encryption is left alone.

        No link below `folder` is followed: whoever wrote it can't make this read what lies outside.

        Args:
            name: of the file, relative to `folder`.

        Raises:
            DamagedFile: its bytes have another digest, or it is a link; nothing was stored.
            BucketUnavailable: try again.
            OSError: the file can't be read.
        """
        if self._marks(key) == (digest, self._label):
            return
        descriptor = _open(folder, name)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            blocks = _checked(iter(functools.partial(file.read, _BLOCK_BYTES), b""), digest, folder / name)
            if size <= _BLOCK_BYTES:
                self._put(key, b"".join(blocks), digest)
            else:
                part = max(_BLOCK_BYTES, -(-size // _MOST_PARTS))
                self._put(key, blocks, digest, multipart=True, part_bytes=part)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object, in place of one that is there.

        Raises:
            BucketUnavailable: try again.
        """
        self._put(key, data, digest_bytes(data))

    def fetch_file(self, key: str, target: Path, digest: str | None, parts: Path) -> None:
        """Bring an object to `target` in one move, if its bytes have `digest` (None: whatever they are).

        Any number of processes may do so at once; each writes a file of its own below `parts`, which must be
        on the same disk.

        Raises:
            NotFound: there is none.
            DamagedFile: it isn't what it should be; `target` is as it was.
            BucketUnavailable: try again.
            StorageFull: no room.
        """
        blocks = self._stream(key)
        try:
            parts.mkdir(parents=True, exist_ok=True)
            part = parts / f"{uuid.uuid4().hex}.part"
            try:
                found = _write(blocks, part)
                if digest is not None and found != digest:
                    raise DamagedFile(f"{key} is damaged in the object store: its bytes have {found}")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
                sync_directory(target.parent)
            finally:
                part.unlink(missing_ok=True)
        except BaseError as error:
            raise self._refusal(key, error) from error
        except OSError as error:
            raise StorageFull(f"can't write {target}: {error}; free some room") from error

    def read_bytes(self, key: str) -> bytes | None:
        """Return a small object; None where there is none.

        Raises:
            BucketUnavailable: try again.
        """
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError as error:
            if _lacks_bucket(error):
                raise self._refusal(key, error) from error
            return None
        except BaseError as error:
            raise self._refusal(key, error) from error

    def digest_of(self, key: str) -> str | None:
        """Read an object and return the digest of its bytes; None where there is none.

        Raises:
            BucketUnavailable: it can't be known now.
        """
        state = hashlib.sha256()
        try:
            for block in self._stream(key):
                state.update(memoryview(block))
        except NotFound:
            return None
        except BaseError as error:
            raise self._refusal(key, error) from error
        return f"sha256:{state.hexdigest()}"

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, in no order; what isn't there is no fault.

        Raises:
            BucketUnavailable: try again.
        """
        try:
            obstore.delete(self._store, list(keys))
        except (BaseError, FileNotFoundError) as error:
            raise self._refusal("", error) from error

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix, whole segments of it.

        Raises:
            BucketUnavailable: try again.
        """
        try:
            pages = self._store.list(prefix)  # pyright: ignore[reportUnknownMemberType]
            return [str(entry["path"]) for page in pages for entry in page]
        except BaseError as error:
            raise self._refusal(prefix, error) from error

    def _marks(self, key: str) -> tuple[str, str] | None:
        """Return digest and encryption that an object was written with; None where there is none."""
        try:
            found = obstore.get(self._store, key, options={"head": True}).attributes
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamagedFile(f"{key!r} can't be the name of an object") from error
        except BaseError as error:
            raise self._refusal(key, error) from error
        marks = cast("dict[str, str]", found)
        return marks.get(_DIGEST, ""), marks.get(_ENCRYPTION, "")

    def _put(
        self,
        key: str,
        data: bytes | Iterator[bytes],
        digest: str,
        *,
        multipart: bool = False,
        part_bytes: int = _BLOCK_BYTES,
    ) -> None:
        try:
            obstore.put(
                self._store,
                key,
                data,
                attributes={_DIGEST: digest, _ENCRYPTION: self._label},
                use_multipart=multipart,
                chunk_size=part_bytes,
                max_concurrency=_BLOCKS_AT_ONCE,
            )
        except (BaseError, FileNotFoundError) as error:
            raise self._refusal(key, error) from error

    def _stream(self, key: str) -> Iterator[Buffer]:
        """Begin to read an object. That the bucket isn't there doesn't mean that the object is lost."""
        try:
            return iter(obstore.get(self._store, key).stream(min_chunk_size=_BLOCK_BYTES))
        except FileNotFoundError as error:
            if _lacks_bucket(error):
                raise self._refusal(key, error) from error
            raise NotFound(f"{key} is missing from the object store") from error
        except BaseError as error:
            raise self._refusal(key, error) from error

    def _refusal(self, key: str, error: Exception) -> BucketUnavailable:
        """Say to users what they need; addresses and what the store itself said are the operator's."""
        _log.warning("the object store failed", key=f"{self._url}/{key}", error=first_line(error))
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return BucketUnavailable(
                "the object store refuses the platform; the operator checks its AWS credentials, and their"
                " rights to the bucket and its KMS key"
            )
        if isinstance(error, FileNotFoundError):
            return BucketUnavailable(f"there is no such bucket; the operator checks {PREFIX}URL")
        return BucketUnavailable(
            "the object store doesn't answer as it should; it is tried again, and the operator finds the"
            " cause with `steelyard doctor`"
        )


def bucket_of_environment() -> Bucket | None:
    """Return the bucket that this process's environment names; None where artifacts stay local.

    Raises:
        BucketMisconfigured: the settings can't be right.
    """
    if not uses_bucket():
        return None
    names = sorted(name for name in os.environ if name.startswith((PREFIX, _AWS_PREFIX)))
    return _open_once(tuple((name, os.environ[name]) for name in names))


@functools.lru_cache(maxsize=4)
def _open_once(_environment: tuple[tuple[str, str], ...]) -> Bucket:
    return Bucket.open(read_settings())


def _open(folder: Path, name: str) -> int:
    try:
        return open_inside(folder, name)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise DamagedFile(f"{name} is a link, which isn't followed; write a copy in its place") from error
        raise


def _write(blocks: Iterator[Buffer], part: Path) -> str:
    """Write a new file, durably; return the digest of its bytes."""
    state = hashlib.sha256()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        for block in blocks:
            data = memoryview(block)
            state.update(data)
            file.write(data)
        file.flush()
        os.fsync(descriptor)
    return f"sha256:{state.hexdigest()}"


def _checked(blocks: Iterator[bytes], digest: str, path: Path) -> Iterator[bytes]:
    """Pass blocks on; where they don't have the digest in the end, raise, so that none of them counts."""
    state = hashlib.sha256()
    for block in blocks:
        state.update(block)
        yield block
    if (found := f"sha256:{state.hexdigest()}") != digest:
        raise DamagedFile(f"{path.name} is damaged on this node: its bytes have {found}, not {digest}")


def _lacks_bucket(error: FileNotFoundError) -> bool:
    return "NoSuchBucket" in str(error)


def first_line(error: BaseException) -> str:
    """Return what a store said, without its long tail."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
