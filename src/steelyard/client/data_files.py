"""Local files of data, found by what a user names: files, folders, globs."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from steelyard.kit.errors import InvalidRequest
from steelyard.specs.data_endings import DATA_SUFFIXES, ending_of

_PARAM = "files"


@dataclass(frozen=True)
class DataFile:
    """A file to send, and what messages about its rows call it."""

    path: Path
    name: str


Input = str | os.PathLike[str] | DataFile


def find_data(inputs: Sequence[Input]) -> tuple[list[DataFile], list[str]]:
    """Return the files that `inputs` stand for, each once, and the URIs among them.

    Folders are read to the bottom, links to folders and what begins with a dot left out; `**` in a glob goes
    to the bottom too. What a folder or glob holds beside data is passed over.

    Raises:
        InvalidRequest: nothing is there, or a file's kind isn't known, or it can't be read.
    """
    uris = [item for item in inputs if isinstance(item, str) and "://" in item]
    found: dict[str, DataFile] = {}
    for item in inputs:
        if isinstance(item, str) and item in uris:
            continue
        for file in [item] if isinstance(item, DataFile) else _expand(os.fspath(item)):
            _check(file)
            found.setdefault(os.path.realpath(file.path), file)
    return list(found.values()), list(dict.fromkeys(uris))


def _expand(item: str) -> Iterator[DataFile]:
    path = Path(item).expanduser()
    if path.is_dir():
        yield from _walk(item, path)
    elif path.exists():
        yield DataFile(path, item)
    elif glob.has_magic(item):
        yield from _match(item, str(path))
    else:
        raise InvalidRequest(
            f"no file at {item}; name a file, a folder of data files, or a glob", param=_PARAM
        )


def _walk(item: str, folder: Path) -> Iterator[DataFile]:
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in names if _is_data(name)]
    if not found:
        raise InvalidRequest(f"the folder {item} holds no {_known()} file", param=_PARAM)
    yield from (DataFile(path, str(path)) for path in sorted(found))


def _match(item: str, pattern: str) -> Iterator[DataFile]:
    names = sorted(name for name in glob.glob(pattern, recursive=True) if _is_data(name))
    if "**" in pattern:
        names = [name for name in names if not _is_behind_link(name)]
    files = [DataFile(Path(name), name) for name in names if os.path.isfile(name)]
    if not files:
        raise InvalidRequest(f"no data file matches {item}; check the folder", param=_PARAM)
    yield from files


def _is_behind_link(name: str) -> bool:
    """Whether a folder on the way is a link, which may lead round in a circle."""
    return any(parent.is_symlink() for parent in Path(name).parents)


def _is_data(name: str) -> bool:
    return ending_of(name) is not None and not os.path.basename(name).startswith(".")


def _check(file: DataFile) -> None:
    """Look before anything is sent."""
    if not file.path.is_file():
        raise InvalidRequest(f"{file.name} is no regular file; pipe it into '-'", param=_PARAM)
    if ending_of(file.path.name) is None:
        raise InvalidRequest(
            f"{file.name}: can't tell the kind of file from its name; known endings are {_known()}, each also"
            " with .gz or .zst; unpack archives first",
            param=_PARAM,
        )
    try:
        file.path.open("rb").close()
    except OSError as error:
        raise InvalidRequest(f"{file.name} can't be read: {error.strerror}", param=_PARAM) from error


def _known() -> str:
    return ", ".join(DATA_SUFFIXES)
