"""A search that prunes: real trials, their curves, a killed worker, and the best model with its descent."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until
from tests.e2e.specs import sums_spec

from steelyard.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
RATES = [3.0e-3, 1.0e-3, 1.0e-6, 1.0e-5, 2.0e-6, 3.0e-6]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


def pruning_search(name: str) -> dict[str, Any]:
    """A search whose later trials learn next to nothing, which their first look shows."""
    return {
        "api_version": "steelyard/v1",
        "type": "hpo",
        "name": name,
        "search": {
            "algorithm": "grid",
            "metric": "eval/loss",
            "direction": "minimize",
            "parameters": {"training.learning_rate": {"type": "choice", "values": RATES}},
            "max_trials": 10,
            "max_concurrent_trials": 2,
            "pruning": {"type": "asha", "min_steps": 10, "reduction_factor": 3},
        },
        "trial": sums_spec(name, max_steps=150, eval_steps=10, eval_max_samples=20),
    }


def test_a_search_prunes_survives_a_killed_worker_and_registers_its_best(
    platform: LivePlatform, client: Client
) -> None:
    plan = client.jobs.plan(pruning_search("pruned-search"))
    assert "the grid has 6 points, fewer than search.max_trials (10)" in plan.messages
    search = client.jobs.submit(pruning_search("pruned-search")).id
    wait_until(lambda: any(each.step >= 20 for each in client.trials.all(search)), "a trial to train", 120)
    platform.kill("worker-1")

    ended = wait_for_state(client, search, "succeeded", "failed", timeout_seconds=240)

    assert ended.state == "succeeded", ended.status_message
    trials = client.trials.all(search, curves=True)
    assert [trial.parameters["training.learning_rate"] for trial in trials] == RATES
    done = [trial for trial in trials if trial.state == "succeeded"]
    pruned = [trial for trial in trials if trial.state == "cancelled"]
    assert pruned
    assert {trial.status_reason for trial in pruned} == {"pruned"}
    assert len(done) + len(pruned) == len(RATES)
    assert all("not among the best" in str(trial.status_message) for trial in pruned)
    assert max(trial.step for trial in pruned) < 150
    best = min(done, key=lambda trial: (trial.value, trial.number))
    assert [trial.number for trial in trials if trial.is_best] == [best.number]
    for trial in done:
        steps = [point.step for point in trial.curve or []]
        assert steps == list(range(10, 151, 10))
        assert (trial.curve or [])[-1].value == trial.value == client.jobs.get(trial.job).metrics["eval/loss"]
    assert ended.best is not None
    assert ended.best.number == best.number
    _require_descent(client, search, best.job)
    _require_commands(platform, search, best.number)
    wait_until(lambda: _mlflow_steps(platform, client, best.job) == list(range(10, 151, 10)), "its curve", 90)


def _require_descent(client: Client, search: str, trial: str) -> None:
    """One version, of the best trial alone, whose signed statement names the trial and its search."""
    view = client.jobs.get(search)
    assert view.model is not None
    assert (view.model.name, view.model.version) == ("pruned-search", 1)
    assert client.jobs.get(trial).lineage["parent"] == search
    models = [client.jobs.get(each.job).model for each in client.trials.all(search)]
    assert sum(model is not None for model in models) == 1
    envelope = json.loads(client.lineage.statement("pruned-search", 1))
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    assert predicate["buildDefinition"]["internalParameters"]["made_by"] == search
    assert f"/{trial}/" in predicate["runDetails"]["metadata"]["invocationId"]
    assert client.lineage.verify("pruned-search", 1).verified
    edges = [(each.source, each.target, each.relation) for each in client.lineage.graph("job", trial).edges]
    assert (f"job:{search}", f"job:{trial}", "made") in edges
    assert (f"job:{trial}", "model:pruned-search@1", "trained") in edges


def _mlflow_steps(platform: LivePlatform, client: Client, job: str) -> list[int]:
    """Return the steps of a trial's curve in MLflow: each once, in order."""
    token = (platform.home / "secrets" / "admin.token").read_text().strip()
    with httpx.Client(
        base_url=f"{client.api_url}/mlflow/api/2.0/mlflow", headers={"Authorization": f"Bearer {token}"}
    ) as http:
        experiments = http.post("/experiments/search", json={"max_results": 100}).json()["experiments"]
        query = {
            "experiment_ids": [each["experiment_id"] for each in experiments],
            "filter": f"tags.`steelyard.job_id` = '{job}'",
        }
        runs = http.post("/runs/search", json=query).json().get("runs", [])
        if not runs:
            return []
        params = {"run_id": runs[0]["info"]["run_id"], "metric_key": "eval/loss"}
        found = http.get("/metrics/get-history", params=params).json().get("metrics", [])
    return sorted({int(each["step"]) for each in found})


def _require_commands(platform: LivePlatform, search: str, best: int) -> None:
    table = platform.run("trials", search, "--sort", "value", "--curves")
    assert table.returncode == 0, table.stderr
    lines = table.stdout.splitlines()
    assert lines[2].startswith(f"{best:04d} *")
    assert "pruned" in table.stdout
    found = platform.json("trials", search, "--json", "--limit", "4")
    assert ([each["number"] for each in found["data"]], found["next"]) == ([0, 1, 2, 3], "3")
    followed = platform.run("trials", search, "-f")
    assert len(followed.stdout.splitlines()) == len(RATES)
    assert f"trial {best}: eval/loss" in platform.run("get", search).stdout
