"""The calls on evaluations and suites, built from plain arguments."""

import base64
import re
from pathlib import Path
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import Page
from steelyard.specs.evaluations import (
    SUITE_NAME,
    EvaluationComparison,
    EvaluationSummary,
    EvaluationView,
    SuiteUpload,
    SuiteUploadFile,
    SuiteView,
)
from steelyard.specs.views import ListView

_UPLOAD_SECONDS = 300.0


def search(
    project: str, limit: int, after: str | None, job: str | None, suite: str | None
) -> Call[Page[EvaluationSummary]]:
    """Ask for a page."""
    filters = (("after", after), ("job", job), ("suite", suite))
    query = (("limit", str(limit)), *((name, value) for name, value in filters if value is not None))
    return Call("GET", _path(project, "evaluations"), Page[EvaluationSummary].model_validate_json, query)


def get(project: str, evaluation: str) -> Call[EvaluationView]:
    """Ask for one evaluation."""
    return Call("GET", _path(project, "evaluations", evaluation), EvaluationView.model_validate_json)


def samples(project: str, evaluation: str) -> Call[bytes]:
    """Ask for the per-sample records, a Parquet file."""
    return Call("GET", _path(project, "evaluations", evaluation, "samples"), bytes)


def compare(project: str, a: str, b: str) -> Call[EvaluationComparison]:
    """Ask how two models compare."""
    path = _path(project, "evaluations", "compare")
    return Call("GET", path, EvaluationComparison.model_validate_json, (("a", a), ("b", b)))


def suites(project: str) -> Call[ListView[SuiteView]]:
    """Ask for all suites."""
    return Call("GET", _path(project, "suites"), ListView[SuiteView].model_validate_json)


def add_suite(project: str, folder: Path, name: str | None, organization: str | None) -> Call[SuiteView]:
    """Send a folder; sending it twice keeps it once.

    Raises:
        InvalidRequest: the folder can't be read, or its name is no suite's.
    """
    wanted = name or folder.resolve().name
    if not re.fullmatch(SUITE_NAME, wanted):
        raise InvalidRequest(
            f"{wanted!r} is no suite's name; use lower-case letters, digits, '_' and '-'", param="name"
        )
    upload = SuiteUpload(name=wanted, files=_files(folder), organization=organization)
    content = upload.model_dump_json().encode()
    return Call(
        "POST", _path(project, "suites"), SuiteView.model_validate_json, content=content,
        timeout_seconds=_UPLOAD_SECONDS,
    )  # fmt: skip


def get_suite(project: str, name: str, digest: str | None) -> Call[SuiteView]:
    """Ask for one version."""
    return Call("GET", _path(project, "suites", name), SuiteView.model_validate_json, _digest(digest))


def remove_suite(project: str, name: str, digest: str | None) -> Call[SuiteView]:
    """Let no new job name a version."""
    return Call("DELETE", _path(project, "suites", name), SuiteView.model_validate_json, _digest(digest))


def _files(folder: Path) -> list[SuiteUploadFile]:
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder; name one with task files (.yaml) and their data")
    found: list[SuiteUploadFile] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        # Editors and caches leave hidden files, and a link may lead anywhere.
        if (
            path.is_symlink()
            or not path.is_file()
            or any(part.startswith((".", "__")) for part in relative.parts)
        ):
            continue
        data = path.read_bytes()
        found.append(
            SuiteUploadFile(
                path=relative.as_posix(), digest=digest_bytes(data), content=base64.b64encode(data).decode()
            )
        )
    if not found:
        raise InvalidRequest(f"{folder} holds no file; a suite has task files (.yaml) and their data")
    return found


def _digest(digest: str | None) -> tuple[tuple[str, str], ...]:
    return (("digest", digest),) if digest is not None else ()


def _path(project: str, *parts: str) -> str:
    quoted = "/".join(quote(part, safe="") for part in parts)
    return f"/v1/projects/{quote(project, safe='')}/{quoted}"
