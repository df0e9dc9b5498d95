"""The part of MLflow that a registry's mirror needs, in memory, with MLflow's own ways.

A number is never given out twice while its model is there; deleting a version takes the aliases with it;
searches leave out what bears the tag of a prompt.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx

_HIDING = "mlflow.prompt.is_prompt"


@dataclass
class BookVersion:
    """A version; `deleted` ones keep their number."""

    number: int
    run_id: str
    source: str
    tags: dict[str, str]
    deleted: bool = False


@dataclass
class BookModel:
    """A registered model."""

    versions: list[BookVersion] = field(default_factory=list[BookVersion])
    aliases: dict[str, str] = field(default_factory=dict[str, str])

    def living(self) -> dict[str, BookVersion]:
        """Return the versions that are there, by number."""
        return {str(each.number): each for each in self.versions if not each.deleted}


class MlflowBook:
    """Answers as MLflow's REST API does. `dies_after`: requests until it answers no more."""

    def __init__(self) -> None:
        self.models: dict[str, BookModel] = {}
        self.runs: dict[str, str] = {}
        """Key -> id of the run."""
        self.files: dict[str, bytes] = {}
        self.dies_after: int | None = None
        self.writes = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.dies_after is not None:
            if self.dies_after == 0:
                raise httpx.ConnectError("it is down", request=request)
            self.dies_after -= 1
        path = request.url.path
        if "/mlflow-artifacts/" in path:
            self.files[path.rpartition("/artifacts/model/")[2]] = request.read()
            return httpx.Response(200, json={})
        verb = path.partition("/api/2.0/mlflow/")[2]
        asked: dict[str, Any] = (
            dict(request.url.params) if request.method == "GET" else json.loads(request.read())
        )
        self.writes += request.method != "GET" and not verb.startswith(("runs/", "experiments/"))
        return self._answer(request.method, verb, asked)

    def _answer(self, method: str, verb: str, asked: dict[str, Any]) -> httpx.Response:
        model = self.models.get(str(asked.get("name")))
        match method, verb:
            case _, "experiments/get-by-name":
                return _found({"experiment": {"experiment_id": "1"}})
            case _, "runs/search":
                key = asked["filter"].split("'")[1]
                runs = [{"info": {"run_id": self.runs[key]}}] if key in self.runs else []
                return _found({"runs": runs})
            case _, "runs/create":
                key = next(tag["value"] for tag in asked["tags"] if tag["key"] == "steelyard.key")
                self.runs[key] = f"run-{len(self.runs) + 1}"
                return _found({"run": {"info": {"run_id": self.runs[key]}}})
            case _, "registered-models/search":
                found = [_model(name, each) for name, each in self.models.items()]
                return _found({"registered_models": found})
            case _, "model-versions/search":
                return _found({"model_versions": self._search(asked.get("filter", ""))})
            case _, "registered-models/create":
                self.models.setdefault(asked["name"], BookModel())
                return _found({})
            case _ if model is None:
                return _missing()
            case _, "registered-models/get":
                return _found({"registered_model": _model(asked["name"], model)})
            case _, "model-versions/create":
                tags = {tag["key"]: tag["value"] for tag in asked["tags"]}
                number = 1 + max((each.number for each in model.versions), default=0)
                model.versions.append(BookVersion(number, asked["run_id"], asked["source"], tags))
                return _found({"model_version": {"version": str(number)}})
            case "DELETE", "registered-models/alias":
                model.aliases.pop(asked["alias"], None)
                return _found({})
            case _:
                return self._answer_of_version(verb, asked, model)

    def _answer_of_version(self, verb: str, asked: dict[str, Any], model: BookModel) -> httpx.Response:
        version = model.living().get(str(asked["version"]))
        if version is None:
            return _missing()
        match verb:
            case "registered-models/alias":
                model.aliases[asked["alias"]] = asked["version"]
            case "model-versions/get":
                return _found({"model_version": _version(asked["name"], version)})
            case "model-versions/set-tag":
                version.tags[asked["key"]] = asked["value"]
            case "model-versions/delete-tag":
                version.tags.pop(asked["key"], None)
            case "model-versions/delete":
                self.lose(asked["name"], version.number)
            case _:
                raise AssertionError(verb)
        return _found({})

    def lose(self, name: str, number: int) -> None:
        """Delete a version, as somebody does who writes to MLflow directly."""
        model = self.models[name]
        model.living()[str(number)].deleted = True
        model.aliases = {alias: there for alias, there in model.aliases.items() if there != str(number)}

    def _search(self, wanted: str) -> list[dict[str, Any]]:
        conditions = dict(re.findall(r"(\w+) = '([^']*)'", wanted))
        return [
            _version(name, each)
            for name, model in self.models.items()
            for each in model.living().values()
            if conditions.get("name", name) == name
            and conditions.get("run_id", each.run_id) == each.run_id
            and _HIDING not in each.tags
        ]


def _model(name: str, model: BookModel) -> dict[str, Any]:
    pairs = [{"alias": alias, "version": version} for alias, version in model.aliases.items()]
    return {"name": name, "aliases": pairs}


def _version(name: str, version: BookVersion) -> dict[str, Any]:
    tags = [{"key": key, "value": value} for key, value in version.tags.items()]
    known = {"name": name, "version": str(version.number), "source": version.source, "tags": tags}
    return {**known, "run_id": version.run_id}


def _found(content: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json=content)


def _missing() -> httpx.Response:
    return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"})
