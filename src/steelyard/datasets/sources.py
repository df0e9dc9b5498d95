"""What the caller named, as a list of local files: paths, folders, globs, standard input, `s3://`, `hf://`.

An API user's paths are confined to the roots that the operator allows; a link that leads out of them
is refused. Archives (zip, tar) are refused, so no member's name is ever used as a path.
"""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from steelyard.datasets.remote import download
from steelyard.kit.errors import InvalidDataset, PermissionDenied

FileKind = Literal["jsonl", "json", "csv", "parquet", "txt"]
Compression = Literal["gzip", "zstd"]

_KINDS: dict[str, FileKind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "txt",
}
_PACKED: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_MAGIC: tuple[tuple[bytes, Compression], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One file to read."""

    name: str
    """What messages call it: the path as it was given, or the URI."""
    path: Path
    kind: FileKind
    compression: Compression | None


def find_sources(
    inputs: Sequence[str | Path],
    *,
    scratch: Path,
    roots: Sequence[Path] | None = None,
    stdin: BinaryIO | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Source]:
    """Return the files that `inputs` stand for, sorted by name, each once.

    Args:
        inputs: paths, folders (read to the bottom), globs, `-`, `s3://bucket/key` or `hf://datasets/ID`.
        scratch: folder that downloads and standard input go to.
        roots: folders that local paths must lie in; None: anywhere.
        stdin: what `-` reads.
        names: path -> what messages call it, where that isn't the path.

    Raises:
        InvalidDataset: nothing is there, or a file's kind isn't known.
        PermissionDenied: a path leads out of `roots`.
    """
    called = names or {}
    found: dict[tuple[str, str], Source] = {}
    for item in inputs:
        for place, path in _expand(str(item), scratch, stdin):
            name = called.get(place, place)
            _confine(path, name, roots)
            found[name, place] = _source(name, path)
    if not found:
        raise InvalidDataset("no input files; name at least one file, folder, glob or URI")
    sources = [found[key] for key in sorted(found)]
    return sources if roots is None else _named_by_ending(sources)


def _expand(item: str, scratch: Path, stdin: BinaryIO | None) -> Iterator[tuple[str, Path]]:
    if item == "-":
        yield "stdin", _drain(stdin, scratch)
    elif "://" in item:
        yield from download(item, scratch)
    elif Path(item).is_dir():
        yield from _walk(Path(item))
    elif Path(item).exists():
        yield item, Path(item)
    elif glob.has_magic(item):
        yield from _match(item)
    else:
        raise InvalidDataset(f"{item}: no such file; check the path")


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    paths = [path for path in _files_below(folder) if _kind_of(path.name) is not None]
    if not paths:
        raise InvalidDataset(f"{folder}: the folder holds no {_known()} file")
    for path in sorted(paths):
        yield str(path), path


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in names if not name.startswith("."))


def _match(pattern: str) -> Iterator[tuple[str, Path]]:
    names = sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not names:
        raise InvalidDataset(f"{pattern}: no file matches; quote the pattern and check the folder")
    for name in names:
        yield name, Path(name)


def _drain(stdin: BinaryIO | None, scratch: Path) -> Path:
    if stdin is None:
        raise InvalidDataset("'-' was given, but there is no standard input here; name a file")
    target = scratch / "stdin.jsonl"
    with target.open("wb") as file:
        while block := stdin.read(_COPY_BYTES):
            file.write(block)
    return target


def _confine(path: Path, name: str, roots: Sequence[Path] | None) -> None:
    if roots is None:
        return
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise PermissionDenied(
            f"{name} lies outside the folders that ingest may read; upload the file, or ask the operator to"
            " allow its folder"
        )


def _source(name: str, path: Path) -> Source:
    if not path.is_file():
        raise InvalidDataset(f"{name}: is no regular file")
    kind = _kind_of(path.name)
    if kind is None:
        raise InvalidDataset(
            f"{name}: can't tell the kind of file from its name; known endings are {_known()}, each also with"
            " .gz or .zst; unpack archives first"
        )
    start = _first_bytes(path)
    if kind != "parquet" and start.startswith(_UTF_16):
        raise InvalidDataset(f"{name}: is UTF-16; save the file as UTF-8")
    return Source(name, path, kind, _compression_of(start))


def _kind_of(name: str) -> FileKind | None:
    stem, suffix = os.path.splitext(name.lower())
    if suffix in _PACKED:
        suffix = os.path.splitext(stem)[1]
    return _KINDS.get(suffix)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _compression_of(start: bytes) -> Compression | None:
    return next((packing for magic, packing in _MAGIC if start.startswith(magic)), None)


def _known() -> str:
    return ", ".join(_KINDS)


def _named_by_ending(sources: list[Source]) -> list[Source]:
    """Call files by their last names alone, where those differ: a server's folders mean nothing to a user."""
    last = [Path(source.name).name if source.name == str(source.path) else source.name for source in sources]
    if len(set(last)) < len(last):
        return sources
    return [replace(source, name=name) for source, name in zip(sources, last, strict=True)]
