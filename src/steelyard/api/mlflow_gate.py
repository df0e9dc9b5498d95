"""What may pass to MLflow, which knows no tenants. Deny by default; pure.

An experiment bears the name of its project. A request passes if its path is one of the few below, it names
a run or an experiment at least, and every one that it names is the caller's. What the platform itself wrote
is not changed: the files of a registered model, and the tags that tell what it is. The local admin passes
with everything: MLflow's own pages list and change things across projects.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from steelyard.kit.errors import InvalidRequest, NotFound

_API = re.compile(r"^(?:ajax-)?api/[23]\.0/mlflow/(.+)$")
_ARTIFACTS = re.compile(
    r"^(?:ajax-)?api/2\.0/mlflow-artifacts/(?:artifacts|mpu/(?:create|complete|abort))/(.+)$"
)
_GET_ARTIFACT = re.compile(r"^(?:get-artifact|(?:ajax-)?api/2\.0/mlflow/get-artifact)$")
_STATIC = re.compile(r"^(?:|health|version|static-files/.*)$")
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")

_READS = frozenset({
    "runs/get", "runs/search", "metrics/get-history", "metrics/get-history-bulk",
    "metrics/get-history-bulk-interval", "artifacts/list", "experiments/get", "experiments/get-by-name",
})  # fmt: skip
_WRITES = frozenset({
    "runs/log-metric", "runs/log-batch", "runs/log-parameter", "runs/set-tag", "runs/delete-tag",
    "runs/update", "runs/log-inputs",
})  # fmt: skip
_RUNS = frozenset({"run_id", "run_uuid", "run_ids", "run_uuids"})
_EXPERIMENTS = frozenset({"experiment_id", "experiment_ids"})
_NAMES = frozenset({"experiment_name"})
_TAGGING = frozenset({"runs/set-tag", "runs/delete-tag", "runs/log-batch"})
_OUR_TAGS = "steelyard."
_OUR_FOLDER = "model"
SEARCH_EXPERIMENTS = "experiments/search"


@dataclass(frozen=True)
class Passage:
    """What a request wants of MLflow."""

    kind: Literal["page", "search_experiments", "read", "write"]
    runs: frozenset[str] = frozenset()
    experiments: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    lists: bool = False
    """Answers with runs that the request doesn't name."""


def has_ids_in_body(path: str) -> bool:
    """Whether the body has to be read to know whom a request is about. Artifacts name them in the path."""
    return _API.match(path) is not None


def passage_of(method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Passage:
    """Say what a request wants.

    Raises:
        NotFound: nothing that passes.
        InvalidRequest: its body is no JSON object.
    """
    # What MLflow would decode a second time, or read as a query, isn't the path that is judged here.
    if {".", ".."} & set(path.split("/")) or any(sign in path for sign in ("//", "\\", "%", "?", "#")):
        raise _closed()
    if _STATIC.match(path) and method in ("GET", "HEAD"):
        return Passage("page")
    if (found := _ARTIFACTS.match(path)) is not None:
        return _artifact(method, found[1])
    named = list(_named(query)) + list(_named(_parse(body)))
    runs, experiments, names = (
        frozenset(value for key, value in named if key in keys) for keys in (_RUNS, _EXPERIMENTS, _NAMES)
    )
    if _GET_ARTIFACT.match(path) and method == "GET" and runs:
        return Passage("read", runs, experiments)
    found = _API.match(path)
    if found is None:
        raise _closed()
    if found[1] == SEARCH_EXPERIMENTS:
        return Passage("search_experiments")
    kind = "read" if found[1] in _READS else "write" if found[1] in _WRITES else None
    if kind is None or not (runs or experiments or names):
        raise _closed()
    if found[1] in _TAGGING and any(key == "key" and value.startswith(_OUR_TAGS) for key, value in named):
        raise _ours(f"what begins with {_OUR_TAGS}")
    return Passage(kind, runs, experiments, names, lists=found[1] == "runs/search")


def keep_experiments(answer: bytes, projects: frozenset[str]) -> bytes:
    """Return the answer of a search for experiments with those of some projects alone."""
    content = json.loads(answer)
    found = content.get("experiments", [])
    content["experiments"] = [each for each in found if each.get("name") in projects]
    return json.dumps(content).encode()


def _artifact(method: str, path: str) -> Passage:
    """`<experiment>/<run>/artifacts/...`"""
    parts = path.split("/")
    if len(parts) < 4 or parts[2] != "artifacts":
        raise _closed()
    kind = "read" if method in ("GET", "HEAD") else "write"
    if kind == "write" and parts[3] == _OUR_FOLDER:
        raise _ours(f"the folder {_OUR_FOLDER!r}")
    return Passage(kind, frozenset({parts[1]}), frozenset({parts[0]}))


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every name and text below a value, at any depth; MLflow takes `runId` for `run_id`."""
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, Any]", value).items():
            name = _CAMEL.sub(lambda found: f"_{found[1].lower()}", str(key))
            for text in cast("list[Any]", inner) if isinstance(inner, list) else [inner]:
                if isinstance(text, str | int):
                    yield name, str(text)
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _named(inner)


def _parse(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        content = json.loads(body)
    except ValueError as error:
        raise InvalidRequest("MLflow's API takes a JSON object") from error
    if not isinstance(content, dict):
        raise InvalidRequest("MLflow's API takes a JSON object")
    return cast("dict[str, Any]", content)


def _ours(what: str) -> NotFound:
    return NotFound(f"{what} of a run is the platform's to write, for registered models; use another name")


def _closed() -> NotFound:
    return NotFound(
        "nothing here passes to MLflow for you: runs and figures of your own projects do, by their ids; all"
        " else is the local admin's"
    )
