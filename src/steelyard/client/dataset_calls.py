"""The calls on datasets, built from plain arguments."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.client.errors import UnprocessableEntity
from steelyard.kit.canonical import digest_file
from steelyard.specs.datasets import DatasetVersionView, VersionDiff, VersionVerification
from steelyard.specs.ingests import DatasetSummary, IngestView, RowsView, UploadView
from steelyard.specs.views import ErrorBody, ListView

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def upload(project: str, path: Path) -> Call[UploadView]:
    """Send a file; its digest goes along, so that damage on the way is noticed."""
    name = _UNSAFE.sub("_", path.name).lstrip("._-") or "file"
    return Call(
        "POST",
        f"{_project(project)}/uploads",
        UploadView.model_validate_json,
        query=(("filename", name[-200:]),),
        headers={"X-Content-Digest": digest_file(path), "Content-Type": "application/octet-stream"},
        file=path,
    )


def request_ingest(
    project: str, name: str, uploads: Sequence[str], spec: Mapping[str, Any] | None, append_to: str | None
) -> Call[IngestView]:
    """Ask for an ingest of uploads."""
    body: dict[str, Any] = {"uploads": list(uploads), "spec": dict(spec or {})}
    if append_to is not None:
        body["append_to"] = append_to
    return Call(
        "POST",
        f"{_project(project)}/datasets/{quote(name, safe='')}/ingests",
        IngestView.model_validate_json,
        content=json.dumps(body).encode(),
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


def _version(project: str, ref: str) -> str:
    return f"{_project(project)}/datasets/{quote(ref, safe='@')}"


def _project(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}"
