# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Files of an S3 bucket. Endpoint, region and credentials are the environment's (`AWS_...`).

Objects are read by signed URLs, and redirects aren't followed: a store that was made to point elsewhere
can't bring what is behind a firewall into a dataset.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from steelyard.kit.errors import InvalidDataset, Unavailable
from steelyard.specs.data_endings import ending_of

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SIGNED_FOR = timedelta(hours=6)
_TIMEOUT_SECONDS = 60.0
_BLOCK_BYTES = 1 << 20
_NOT_FOUND = 404

RequireRoom = Callable[[int, Path], None]


def fetch(uri: str, scratch: Path, require_room: RequireRoom) -> Iterator[tuple[str, Path]]:
    """Fetch an object, or all data below a prefix, and yield each one's URI and local path.

    Raises:
        InvalidDataset: no such bucket or object, or nothing to read is there.
        Unavailable: the store doesn't answer, or answers with a redirect.
    """
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, unquote(parts.path.lstrip("/"))
    if not _BUCKET.fullmatch(bucket):
        raise InvalidDataset(f"{uri}: {bucket!r} is no bucket's name; write s3://BUCKET/PREFIX")
    try:
        store = _open(bucket)
        sizes = _sizes(store, prefix)
        if not sizes:
            raise InvalidDataset(f"{uri}: nothing to read is there; check bucket, key and credentials")
        require_room(sum(sizes.values()), scratch)
        with httpx.Client(follow_redirects=False, timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
            for index, key in enumerate(sorted(sizes)):
                target = scratch / f"s3-{index:06d}{ending_of(key)}"
                _copy(http, obstore.sign(store, "GET", key, _SIGNED_FOR), target, sizes[key])
                yield f"s3://{bucket}/{key}", target
    except (FileNotFoundError, InvalidPathError) as error:
        raise InvalidDataset(f"{uri}: no such bucket or object; check both") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise InvalidDataset(
            f"{uri}: the platform's credentials may not read that; the operator sets AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY of the workers"
        ) from error
    except (BaseError, httpx.HTTPError) as error:
        raise Unavailable(f"{uri}: the object store can't be read: {_first_line(error)}") from error


def _open(bucket: str) -> S3Store:
    """Client options given here would hide the environment's, such as AWS_ALLOW_HTTP."""
    return S3Store(bucket, retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)})


def _sizes(store: S3Store, prefix: str) -> dict[str, int]:
    """Return key -> size of the object itself, or of all data below the prefix, whole segments of it."""
    if ending_of(prefix):
        return {prefix: obstore.head(store, prefix)["size"]}
    return {
        entry["path"]: entry["size"]
        for page in store.list(prefix or None)
        for entry in page
        if entry["size"] and ending_of(entry["path"])
    }


def _copy(http: httpx.Client, url: str, target: Path, size: int) -> None:
    with http.stream("GET", url) as answer, target.open("wb") as file:
        if answer.is_redirect:
            raise Unavailable(
                "the object store answered with a redirect, which isn't followed; set AWS_REGION"
            )
        if answer.status_code == _NOT_FOUND:
            raise FileNotFoundError
        answer.raise_for_status()
        written = 0
        for block in answer.iter_raw(_BLOCK_BYTES):
            written += len(block)
            if written > size:
                raise Unavailable("an object grew while it was read; try again")
            file.write(block)
    if written != size:
        raise Unavailable(f"an object broke off after {written} of {size} bytes; try again")


def _first_line(error: Exception) -> str:
    """What went wrong without the URL, whose signature is a secret for as long as it holds."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answered {error.response.status_code}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
