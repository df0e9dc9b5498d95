# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Files from elsewhere: `s3://bucket/prefix` through obstore, `hf://datasets/OWNER/NAME` through the hub.

Only these two schemes exist, so a URI can't be made to reach other hosts; credentials and endpoints come
from the environment of the process, never from the URI.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from steelyard.kit.errors import InvalidDataset, Unavailable

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt")
_PACKED = ("", ".gz", ".gzip", ".zst", ".zstd")
_ENDINGS = tuple(suffix + packed for suffix in _SUFFIXES for packed in _PACKED)


def download(uri: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Fetch what `uri` stands for into `scratch`, and yield each file's URI and local path.

    Local names are made from a count and the file's ending, never from the remote name.

    Raises:
        InvalidDataset: the scheme isn't known, or nothing to read is there.
        Unavailable: the store or the hub doesn't answer.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return _from_s3(uri, scratch)
    if scheme == "hf":
        return _from_hub(uri, scratch)
    raise InvalidDataset(f"{uri}: unknown scheme {scheme!r}; known are s3:// and hf://datasets/OWNER/NAME")


def _from_s3(uri: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    parts = urlsplit(uri)
    prefix = parts.path.lstrip("/")
    try:
        store = S3Store(parts.netloc)
        keys = [prefix] if prefix.lower().endswith(_ENDINGS) else _list_keys(store, prefix)
        wanted = [key for key in keys if key.lower().endswith(_ENDINGS)]
        if not wanted:
            raise InvalidDataset(f"{uri}: nothing to read is there; check bucket, key and credentials")
        for index, key in enumerate(wanted):
            target = scratch / f"s3-{index:06d}{_ending(key)}"
            with target.open("wb") as file:
                for block in store.get(key).stream():
                    file.write(bytes(block))
            yield f"s3://{parts.netloc}/{key}", target
    except FileNotFoundError as error:
        raise InvalidDataset(f"{uri}: no such object; check bucket and key") from error
    except BaseError as error:
        raise Unavailable(f"{uri}: the object store refused: {_first_line(error)}") from error


def _list_keys(store: S3Store, prefix: str) -> list[str]:
    return sorted(
        str(entry["path"]) for page in store.list(prefix or None) for entry in page if entry["size"]
    )


def _from_hub(uri: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    parts = urlsplit(uri)
    if parts.netloc != "datasets" or parts.path.count("/") < 2:
        raise InvalidDataset(f"{uri}: write hf://datasets/OWNER/NAME, with @REVISION if need be")
    repository, _, revision = parts.path.strip("/").partition("@")
    hub = importlib.import_module("huggingface_hub")
    try:
        folder = hub.snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=[f"*{ending}" for ending in _ENDINGS],
            local_dir=scratch / "hub",
        )
    except (OSError, ValueError) as error:
        raise Unavailable(f"{uri}: the hub can't be reached or refused: {_first_line(error)}") from error
    base = Path(folder).resolve()
    for path in sorted(base.rglob("*")):
        if path.is_file() and ".cache" not in path.relative_to(base).parts and path.name.endswith(_ENDINGS):
            yield f"{uri}/{path.relative_to(base)}", path


def _ending(key: str) -> str:
    return next(ending for ending in sorted(_ENDINGS, key=len, reverse=True) if key.lower().endswith(ending))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
