"""MLflow over its REST API, by the few calls that we need. Every call is safe to repeat.

The client library is not used here because it can't speak over a unix socket, and because importing it
costs a worker two seconds and 100 MB.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from steelyard.kit.errors import SteelyardError, Unavailable

_API = "/mlflow/api/2.0/mlflow"
_ARTIFACTS = "/mlflow/api/2.0/mlflow-artifacts/artifacts"
_BATCH = 500
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_MODELS_AT_ONCE = 1000
_VERSIONS_AT_ONCE = 10_000


class MlflowRefused(SteelyardError):
    """MLflow answered, and said no."""

    code = "mlflow_refused"
    http_status = 502


@dataclass(frozen=True)
class MetricPoint:
    """One figure at one step; `timestamp_ms` is Unix time."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class MirroredVersion:
    """A model version as MLflow has it."""

    number: str
    """MLflow's own, which it never gives out twice while the model is there."""
    run_id: str
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class MirroredModel:
    """A registered model as MLflow has it."""

    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    """Alias -> number of the version."""
    versions: Mapping[str, MirroredVersion] = field(default_factory=dict[str, MirroredVersion])
    """By number."""


class Mlflow:
    """An MLflow server.

    Args:
        client: knows how to reach it; closed by its owner.

    Every method raises Unavailable where the server doesn't answer or has no connection free, and
    MlflowRefused where it says that the request is wrong.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ensure_experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made if need be."""
        found = await self._get("experiments/get-by-name", {"experiment_name": name}, missing_ok=True)
        if found is not None:
            experiment_id = str(found["experiment"]["experiment_id"])
            if found["experiment"].get("lifecycle_stage") == "deleted":
                await self._post("experiments/restore", {"experiment_id": experiment_id})
            return experiment_id
        made = await self._post("experiments/create", {"name": name}, exists_ok=True)
        if made is None:
            return await self.ensure_experiment(name)
        return str(made["experiment_id"])

    async def ensure_run(
        self, experiment_id: str, name: str, key: str, tags: dict[str, str], start_ms: int
    ) -> str:
        """Return the id of the run that carries `key` in its tag `steelyard.key`, made if need be.

        Args:
            start_ms: when the run began, Unix time.
        """
        found = await self.find_run(experiment_id, key)
        if found is not None:
            return found
        all_tags = {**tags, "steelyard.key": key, "mlflow.runName": name}
        made = await self._post(
            "runs/create",
            {
                "experiment_id": experiment_id,
                "run_name": name,
                "user_id": tags.get("mlflow.user", ""),
                "start_time": start_ms,
                "tags": [{"key": tag, "value": value} for tag, value in all_tags.items()],
            },
        )
        return str((made or {})["run"]["info"]["run_id"])

    async def find_run(self, experiment_id: str, key: str) -> str | None:
        """Return the id of the run that carries `key`, or None. One that somebody deleted is restored."""
        found = await self._post(
            "runs/search",
            {
                "experiment_ids": [experiment_id],
                "filter": f"tags.`steelyard.key` = '{key}'",
                "run_view_type": "ALL",
                "max_results": 1,
            },
        )
        if not found or not found.get("runs"):
            return None
        run = found["runs"][0]["info"]
        if run.get("lifecycle_stage") == "deleted":
            await self._post("runs/restore", {"run_id": run["run_id"]})
        return str(run["run_id"])

    async def log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Store the run's parameters; the same ones again change nothing."""
        pairs = [{"key": key, "value": value[:6000]} for key, value in params.items()]
        for batch in _batches(pairs, 100):
            await self._post("runs/log-batch", {"run_id": run_id, "params": batch})

    async def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of a run; the same ones again change nothing."""
        for key, value in tags.items():
            await self._post("runs/set-tag", {"run_id": run_id, "key": key, "value": value[:5000]})

    async def log_metrics(self, run_id: str, points: list[MetricPoint]) -> None:
        """Store figures; a point that is there already is not stored twice."""
        values = [
            {"key": point.key, "value": point.value, "step": point.step, "timestamp": point.timestamp_ms}
            for point in points
        ]
        for batch in _batches(values, _BATCH):
            await self._post("runs/log-batch", {"run_id": run_id, "metrics": batch})

    async def end_run(
        self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"], end_ms: int
    ) -> None:
        """Close a run."""
        await self._post("runs/update", {"run_id": run_id, "status": status, "end_time": end_ms})

    async def upload_folder(self, experiment_id: str, run_id: str, folder: Path, name: str) -> str:
        """Store a folder's files as artifacts of a run, and return their URI."""
        for path in await asyncio.to_thread(_files, folder):
            target = f"{_ARTIFACTS}/{experiment_id}/{run_id}/artifacts/{name}/{path.relative_to(folder)}"
            await self._send("PUT", target, content=_pieces(path))
        return f"runs:/{run_id}/{name}"

    async def ensure_model_version(
        self, model: str, source: str, run_id: str, tags: dict[str, str]
    ) -> MirroredVersion:
        """Return the version of `model` with this run and source, made with these tags if need be."""
        await self._post("registered-models/create", {"name": model}, exists_ok=True)
        query = {"filter": f"name = '{model}' AND run_id = '{run_id}'"}
        found = await self._get("model-versions/search", query)
        there = [_version(each) for each in (found or {}).get("model_versions", [])]
        same = [each for each in there if each.source == source]
        if same:
            return min(same, key=lambda each: int(each.number))
        made = await self._post(
            "model-versions/create",
            {
                "name": model,
                "source": source,
                "run_id": run_id,
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return MirroredVersion(str((made or {})["model_version"]["version"]), run_id, source, tags)

    async def registry(self) -> dict[str, MirroredModel]:
        """Return all registered models, by name. Two requests for each thousand models.

        It is no snapshot, and MLflow hides what bears the tag of a prompt: look again at what seems missing.
        """
        aliases = {
            str(each["name"]): _aliases(each)
            async for each in self._pages(
                "registered-models/search", "registered_models", {"max_results": str(_MODELS_AT_ONCE)}
            )
        }
        versions: dict[str, dict[str, MirroredVersion]] = {}
        async for each in self._pages("model-versions/search", "model_versions", {}):
            versions.setdefault(str(each["name"]), {})[str(each["version"])] = _version(each)
        return {
            name: MirroredModel(aliases.get(name, {}), versions.get(name, {}))
            for name in {*aliases, *versions}
        }

    async def registered(self, model: str) -> MirroredModel | None:
        """Return a registered model; None where there is no such one."""
        found = await self._get("registered-models/get", {"name": model}, missing_ok=True)
        if found is None:
            return None
        versions = {
            str(each["version"]): _version(each)
            async for each in self._pages(
                "model-versions/search", "model_versions", {"filter": f"name = '{model}'"}
            )
        }
        return MirroredModel(_aliases(found["registered_model"]), versions)

    async def version(self, model: str, number: str) -> MirroredVersion | None:
        """Return one version; None where it was deleted."""
        query = {"name": model, "version": number}
        found = await self._get("model-versions/get", query, missing_ok=True)
        return None if found is None else _version(found["model_version"])

    async def tag_version(self, model: str, number: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None removes one."""
        for key, value in tags.items():
            body = {"name": model, "version": number, "key": key}
            if value is None:
                await self._send(
                    "DELETE", f"{_API}/model-versions/delete-tag", json=body, accepted=(_MISSING,)
                )
            else:
                await self._post("model-versions/set-tag", {**body, "value": value})

    async def remove_version(self, model: str, number: str) -> None:
        """Delete a version, with the aliases that point to it; one that is gone is no fault."""
        body = {"name": model, "version": number}
        await self._send("DELETE", f"{_API}/model-versions/delete", json=body, accepted=(_MISSING,))

    async def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Let an alias of a registered model point to a version, or to none."""
        body = {"name": model, "alias": alias}
        if version is None:
            await self._send("DELETE", f"{_API}/registered-models/alias", json=body, accepted=(_MISSING,))
        else:
            await self._post("registered-models/alias", {**body, "version": version})

    async def _pages(self, path: str, name: str, query: dict[str, str]) -> AsyncGenerator[dict[str, Any]]:
        """Yield what a search finds, page by page."""
        token = ""
        while True:
            page = await self._get(
                path, {"max_results": str(_VERSIONS_AT_ONCE), **query, "page_token": token}
            )
            for each in (page or {}).get(name, []):
                yield each
            token = str((page or {}).get("next_page_token", ""))
            if not token:
                return

    async def _get(
        self, path: str, params: dict[str, str], *, missing_ok: bool = False
    ) -> dict[str, Any] | None:
        return await self._send(
            "GET", f"{_API}/{path}", params=params, accepted=(_MISSING,) if missing_ok else ()
        )

    async def _post(
        self, path: str, body: dict[str, Any], *, exists_ok: bool = False
    ) -> dict[str, Any] | None:
        return await self._send("POST", f"{_API}/{path}", json=body, accepted=(_EXISTS,) if exists_ok else ())

    async def _send(
        self, method: str, path: str, *, accepted: tuple[str, ...] = (), **arguments: Any
    ) -> dict[str, Any] | None:
        """Send a request; None where MLflow answered with one of the `accepted` error codes."""
        try:
            answer = await self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow doesn't answer ({type(error).__name__}); it is tried again") from error
        if answer.is_success:
            return answer.json() if answer.content else {}
        if any(code in answer.text for code in accepted):
            return None
        if answer.status_code >= 500 or "QueuePool" in answer.text:
            raise Unavailable(f"MLflow is not well ({answer.status_code}); it is tried again")
        raise MlflowRefused(f"MLflow refused {path} ({answer.status_code}): {answer.text[:300]}")


def _aliases(model: dict[str, Any]) -> dict[str, str]:
    return {str(pair["alias"]): str(pair["version"]) for pair in model.get("aliases", [])}


def _version(found: dict[str, Any]) -> MirroredVersion:
    tags = {str(tag["key"]): str(tag.get("value", "")) for tag in found.get("tags", [])}
    return MirroredVersion(
        str(found["version"]), str(found.get("run_id", "")), str(found.get("source", "")), tags
    )


def _batches(items: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _files(folder: Path) -> list[Path]:
    return sorted(item for item in folder.rglob("*") if item.is_file())


async def _pieces(path: Path) -> AsyncGenerator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
