"""The calls on datasets, built from plain arguments."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from steelyard.client.call import Call
from steelyard.client.errors import UnprocessableEntity
from steelyard.kit.canonical import digest_bytes, digest_file
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.base import Name
from steelyard.specs.datasets import DatasetVersionView, VersionDiff, VersionVerification
from steelyard.specs.ingests import (
    DatasetDeletion,
    DatasetSummary,
    IngestRequest,
    IngestView,
    RowsView,
    UploadOrder,
    UploadState,
    UploadView,
)
from steelyard.specs.tokens import TokenCacheView
from steelyard.specs.views import ErrorBody, ListView

_OF_BYTES = {"Content-Type": "application/octet-stream"}
_WHOLE_BYTES = 16 << 20
_NAME_CHARS = 512
_CHECK_SECONDS = 30.0
_CHECK_BYTES_PER_SECOND = 100e6
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def upload(project: str, path: Path) -> Call[UploadView]:
    """Send a file; its digest goes along, so that damage on the way is noticed."""
    return Call(
        "POST",
        f"{_project(project)}/uploads",
        UploadView.model_validate_json,
        query=(("filename", _safe_name(path)),),
        headers={"X-Content-Digest": digest_file(path), **_OF_BYTES},
        file=path,
    )


def goes_in_parts(path: Path) -> bool:
    """Whether a file is large enough to be sent in parts, which a broken connection doesn't lose."""
    return path.stat().st_size > _WHOLE_BYTES


def begin_upload(project: str, path: Path) -> Call[UploadState]:
    """Begin a file in parts, or take it up; reads all of it once, for its digest."""
    order = UploadOrder(filename=_safe_name(path), size_bytes=path.stat().st_size, digest=digest_file(path))
    return Call(
        "POST",
        f"{_project(project)}/uploads/parts",
        UploadState.model_validate_json,
        content=order.model_dump_json().encode(),
    )


def missing_parts(state: UploadState) -> list[int]:
    """Return the numbers of the parts that are to be sent still."""
    part = state.part_size_bytes or state.size_bytes
    present = set(state.parts)
    return [number for number in range(1, -(-state.size_bytes // part) + 1) if number not in present]


def sent_bytes(state: UploadState) -> tuple[int, int]:
    """Return how many bytes are there, and how many the whole has."""
    return min(
        len(state.parts) * (state.part_size_bytes or state.size_bytes), state.size_bytes
    ), state.size_bytes


def upload_part(project: str, state: UploadState, path: Path, number: int) -> Call[UploadState]:
    """Send one part; holds it in memory."""
    part = state.part_size_bytes or state.size_bytes
    with path.open("rb") as file:
        file.seek((number - 1) * part)
        content = file.read(part)
    return Call(
        "PUT",
        f"{_project(project)}/uploads/{quote(state.id, safe='')}/parts/{number}",
        UploadState.model_validate_json,
        headers={"X-Content-Digest": digest_bytes(content), **_OF_BYTES},
        content=content,
    )


def complete_upload(project: str, state: UploadState) -> Call[UploadState]:
    """Have the whole checked."""
    return Call(
        "POST",
        f"{_project(project)}/uploads/{quote(state.id, safe='')}/complete",
        UploadState.model_validate_json,
        timeout_seconds=_CHECK_SECONDS + state.size_bytes / _CHECK_BYTES_PER_SECOND,
    )


def finished_upload(state: UploadState) -> UploadView:
    """Return a complete upload as any other is shown."""
    return UploadView(id=state.id, filename=state.filename, size_bytes=state.size_bytes, digest=state.digest)


def request_ingest(
    project: str,
    name: str,
    uploads: Mapping[str, str],
    uris: Sequence[str],
    spec: Mapping[str, Any] | None,
    append_to: str | None,
    decontaminate: bool,
) -> Call[IngestView]:
    """Ask for an ingest of uploads, each with what messages call it, and of what lies elsewhere."""
    body: dict[str, Any] = {
        "uploads": list(uploads),
        "names": {upload: name[-_NAME_CHARS:] for upload, name in uploads.items()},
        "uris": list(uris),
        "spec": dict(spec or {}),
        "decontaminate": decontaminate,
    }
    if append_to is not None:
        body["append_to"] = append_to
    return Call(
        "POST",
        f"{_project(project)}/datasets/{quote(name, safe='')}/ingests",
        IngestView.model_validate_json,
        content=json.dumps(body).encode(),
    )


def request_derivation(
    project: str,
    name: str,
    parent: str | None,
    where: str | None,
    mix: Mapping[str, float] | None,
    rows: int | None,
    decontaminate: bool,
) -> Call[IngestView]:
    """Ask for a child of versions. What can't be, the platform says by field."""
    terms = {"parent": parent, "where": where, "rows": rows, "decontaminate": decontaminate}
    body: dict[str, Any] = {field: value for field, value in terms.items() if value is not None}
    if mix:
        body["mix"] = [{"ref": ref, "weight": weight} for ref, weight in mix.items()]
    return Call(
        "POST",
        f"{_project(project)}/datasets/{quote(name, safe='')}/derivations",
        IngestView.model_validate_json,
        content=json.dumps(body).encode(),
    )


def delete(project: str, ref: str) -> Call[DatasetDeletion]:
    """Delete a version."""
    return Call("DELETE", _version(project, ref), DatasetDeletion.model_validate_json)


def check_ingest(name: str, spec: Mapping[str, Any] | None, append_to: str | None) -> None:
    """Hold what was asked for to its rules before anything is sent, as that may take hours.

    Raises:
        InvalidSpec: it breaks one; `param` names the field.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise InvalidSpec(
            f"{name!r} can't be a dataset's name; take lower-case letters, digits, '.', '_' and '-', with a"
            " letter or digit at both ends",
            param="name",
        ) from error
    body = {"uploads": ["-"], "spec": dict(spec or {}), "append_to": append_to}
    try:
        IngestRequest.model_validate_json(json.dumps(body, default=str))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise InvalidSpec(f"{param}: {first['msg']}", param=param) from error


def cancel_ingest(project: str, ingest: str) -> Call[IngestView]:
    """Stop an ingest."""
    return Call(
        "POST",
        f"{_project(project)}/ingests/{quote(ingest, safe='')}/cancel",
        IngestView.model_validate_json,
    )


def get_ingest(project: str, ingest: str) -> Call[IngestView]:
    """Ask how an ingest is."""
    return Call(
        "GET", f"{_project(project)}/ingests/{quote(ingest, safe='')}", IngestView.model_validate_json
    )


def list_datasets(project: str) -> Call[ListView[DatasetSummary]]:
    """Ask for a project's datasets."""
    return Call("GET", f"{_project(project)}/datasets", ListView[DatasetSummary].model_validate_json)


def show(project: str, ref: str) -> Call[DatasetVersionView]:
    """Ask for a version."""
    return Call("GET", _version(project, ref), DatasetVersionView.model_validate_json)


def head(project: str, ref: str, limit: int, split: str) -> Call[RowsView]:
    """Ask for the first rows of a version."""
    return Call(
        "GET",
        f"{_version(project, ref)}/head",
        RowsView.model_validate_json,
        query=(("limit", str(limit)), ("split", split)),
    )


def rows(project: str, ref: str, split: str | None) -> Call[bytes]:
    """Ask for all rows, as a stream of JSON Lines."""
    query = (("split", split),) if split else ()
    return Call("GET", f"{_version(project, ref)}/rows", bytes, query=query)


def report(project: str, ref: str, form: str) -> Call[bytes]:
    """Ask for the report of a version."""
    return Call("GET", f"{_version(project, ref)}/report", bytes, query=(("form", form),))


def tokenized(project: str, ref: str) -> Call[ListView[TokenCacheView]]:
    """Ask for the tokenized caches of a version."""
    return Call("GET", f"{_version(project, ref)}/tokenized", ListView[TokenCacheView].model_validate_json)


def verify(project: str, ref: str) -> Call[VersionVerification]:
    """Ask whether a version is whole."""
    return Call("GET", f"{_version(project, ref)}/verification", VersionVerification.model_validate_json)


def diff(project: str, ref: str, against: str) -> Call[VersionDiff]:
    """Ask what sets two versions apart."""
    path = f"{_version(project, ref)}/diff"
    return Call("GET", path, VersionDiff.model_validate_json, query=(("against", against),))


def refusal(view: IngestView) -> UnprocessableEntity:
    """Return what to raise for an ingest that failed."""
    unknown = ErrorBody(type="internal_error", code="internal_error", message="the ingest gave no reason")
    return UnprocessableEntity(422, view.error or unknown)


def _safe_name(path: Path) -> str:
    name = _UNSAFE.sub("_", path.name).lstrip("._-") or "file"
    return name[-200:].lstrip("._-") or "file"


def _version(project: str, ref: str) -> str:
    return f"{_project(project)}/datasets/{quote(ref, safe='@')}"


def _project(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}"
