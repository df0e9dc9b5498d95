# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false
"""Files of a dataset on a hub, at one commit: a branch is pinned first, so that names say what was read.

The hub is the environment's (`HF_ENDPOINT`), and so is the token (`HF_TOKEN`).
"""

import importlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from steelyard.kit.errors import InvalidDataset, Unavailable
from steelyard.specs.data_endings import ending_of

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_GONE = (401, 403, 404)

RequireRoom = Callable[[int, Path], None]


@dataclass(frozen=True)
class HubPlace:
    """What a URI names."""

    repository: str
    revision: str | None
    path: str
    """A file or a folder of the repository; empty: all of it."""


def fetch(uri: str, scratch: Path, require_room: RequireRoom) -> Iterator[tuple[str, Path]]:
    """Fetch the data of a dataset, and yield each file's URI, with the commit in it, and its local path.

    Raises:
        InvalidDataset: no such dataset, revision or path, or nothing to read is there.
        Unavailable: the hub doesn't answer.
    """
    place = parse(uri)
    hub = _client(uri)
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        info = api.dataset_info(place.repository, revision=place.revision, files_metadata=True)
        commit = str(info.sha)
        files = {name: size for name, size in _listed(info) if _wanted(name, place.path)}
        if not files:
            raise InvalidDataset(f"{uri}: nothing to read is there; check the path")
        require_room(sum(files.values()), scratch)
        for index, name in enumerate(sorted(files)):
            path = api.hf_hub_download(
                place.repository, name, repo_type="dataset", revision=commit, cache_dir=scratch / "hub"
            )
            target = scratch / f"hf-{index:06d}{ending_of(name)}"
            Path(path).resolve().replace(target)
            yield f"hf://datasets/{place.repository}@{commit}/{name}", target
    except (OSError, ValueError, hub.errors.HTTPError) as error:
        raise _explain(uri, error) from error


def _client(uri: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise InvalidDataset(
            f"{uri}: the platform was installed without a hub's client; the operator adds"
            " 'steelyard[train]', or download the files and ingest those"
        ) from error


def parse(uri: str) -> HubPlace:
    """Return what a URI names.

    Raises:
        InvalidDataset: it isn't of the form.
    """
    parts = urlsplit(uri)
    segments = unquote(parts.path.strip("/")).split("/")
    owner, (name, at, revision) = segments[0], "/".join(segments[1:2]).partition("@")
    if parts.netloc != "datasets" or not (_REPOSITORY.fullmatch(owner) and _REPOSITORY.fullmatch(name)):
        raise InvalidDataset(f"{uri}: write hf://datasets/OWNER/NAME, with @REVISION and /PATH if need be")
    if at and not revision:
        raise InvalidDataset(f"{uri}: '@' is followed by no revision; name a branch, a tag or a commit")
    return HubPlace(f"{owner}/{name}", revision or None, "/".join(segments[2:]))


def _listed(info: Any) -> Iterator[tuple[str, int]]:
    """Yield names and sizes; a name that climbs out of the repository is nobody's file."""
    for sibling in info.siblings or []:
        path = PurePosixPath(sibling.rfilename)
        if not path.is_absolute() and ".." not in path.parts and "\\" not in sibling.rfilename:
            yield str(sibling.rfilename), int(sibling.size or 0)


def _wanted(name: str, path: str) -> bool:
    inside = not path or name == path or name.startswith(path.rstrip("/") + "/")
    return inside and ending_of(name) is not None and not name.startswith(".")


def _explain(uri: str, error: Exception) -> InvalidDataset | Unavailable:
    if isinstance(error, InvalidDataset):
        return error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in _GONE:
        return InvalidDataset(
            f"{uri}: the hub knows no such dataset or revision, or doesn't show it to the platform; check the"
            " name, or have the operator set HF_TOKEN of the workers"
        )
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return Unavailable(f"{uri}: the hub can't be reached: {said}")
