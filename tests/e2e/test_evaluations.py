"""Evaluations on a running platform: by command, killed half-way, answered from the cache, compared."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until

from steelyard.client import Client
from steelyard.specs.evaluations import EvaluationView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_QUESTIONS = 1500
_TASK = """
task: doubles
dataset_path: json
dataset_kwargs: {data_files: {test: doubles.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def suite(platform: LivePlatform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A suite that takes seconds: long enough to be killed in."""
    folder = tmp_path_factory.mktemp("suites") / "doubles"
    folder.mkdir()
    (folder / "doubles.yaml").write_text(_TASK)
    rows = [
        {"question": f"Twice {number} is", "choices": [str(2 * number), str(number)], "answer": 0}
        for number in range(_QUESTIONS)
    ]
    (folder / "doubles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    added: dict[str, Any] = platform.json("evals", "suites", "add", str(folder))
    assert added["created"]
    return "doubles"


@pytest.fixture(scope="module")
def undisturbed(client: Client, suite: str) -> dict[str, EvaluationView]:
    """The evaluation with nothing killed."""
    job = client.jobs.submit(_spec(suite))
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    return _results(client, job.id)


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_digests(
    platform: LivePlatform, client: Client, suite: str, undisturbed: dict[str, EvaluationView]
) -> None:
    job = client.jobs.submit(_spec(suite, use_cache=False))
    folder = platform.home / "objects" / "projects" / "default" / "jobs" / job.id
    wait_until(lambda: len(_shards(folder)) >= 5, "five shards", 120)
    running = client.jobs.get(job.id)
    pid = running.attempts[-1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = _shards(folder)

    ended = wait_for_state(client, job.id, "succeeded", "failed")

    assert ended.state == "succeeded", ended.status_message
    assert len(ended.attempts) == 2
    assert before.items() <= _shards(folder).items()
    results = _results(client, job.id)
    assert {name: view.digest for name, view in results.items()} == {
        name: view.digest for name, view in undisturbed.items()
    }
    assert {view.cached_from for view in results.values()} == {None}


def test_whatever_else_is_killed_the_results_are_the_same_and_there_once(
    platform: LivePlatform, client: Client, suite: str, undisturbed: dict[str, EvaluationView]
) -> None:
    job = client.jobs.submit(_spec(suite, use_cache=False))
    folder = platform.home / "objects" / "projects" / "default" / "jobs" / job.id
    wait_until(lambda: len(_shards(folder)) >= 2, "two shards", 120)
    for process in ("worker-1", "postgres", "temporal", "api", "mlflow"):
        platform.kill(process)

    ended = wait_for_state(client, job.id, "succeeded", "failed", timeout_seconds=180)

    assert ended.state == "succeeded", ended.status_message
    assert len(ended.attempts) == 1
    assert {name: view.digest for name, view in _results(client, job.id).items()} == {
        name: view.digest for name, view in undisturbed.items()
    }


def test_paused_between_shards_it_goes_on_where_it_was(
    platform: LivePlatform, client: Client, suite: str, undisturbed: dict[str, EvaluationView]
) -> None:
    job = client.jobs.submit(_spec(suite, use_cache=False))
    folder = platform.home / "objects" / "projects" / "default" / "jobs" / job.id
    wait_until(lambda: len(_shards(folder)) >= 3, "three shards", 120)
    client.jobs.pause(job.id)
    wait_for_state(client, job.id, "paused")
    before = _shards(folder)

    client.jobs.resume(job.id)
    ended = wait_for_state(client, job.id, "succeeded", "failed")

    assert ended.state == "succeeded", ended.status_message
    assert before.items() <= _shards(folder).items()
    assert {view.digest for view in _results(client, job.id).values()} == {
        view.digest for view in undisturbed.values()
    }


def test_a_safety_suite_that_is_killed_in_the_middle_goes_on_and_each_result_is_there_once(
    platform: LivePlatform, client: Client
) -> None:
    killed = client.jobs.submit(_safety())
    folder = platform.home / "objects" / "projects" / "default" / "jobs" / killed.id
    wait_until(lambda: len(_shards(folder)) >= 2, "two shards", 120)
    pid = client.jobs.get(killed.id).attempts[-1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = _shards(folder)

    ended = wait_for_state(client, killed.id, "succeeded", "failed", timeout_seconds=180)

    assert ended.state == "succeeded", ended.status_message
    assert len(ended.attempts) == 2
    after = _shards(folder)
    assert before.items() <= after.items(), "a finished shard was measured again"
    assert len(after) > len(before), "it was killed after its last shard"
    (row,) = client.evaluations.list(job=killed.id).data
    undisturbed = client.jobs.submit(_safety())
    assert wait_for_state(client, undisturbed.id, "succeeded", "failed").state == "succeeded"
    (other,) = client.evaluations.list(job=undisturbed.id).data
    assert row.cached_from is None
    assert other.cached_from is None
    first, second = client.evaluations.get(row.id), client.evaluations.get(other.id)
    assert (first.digest, first.samples_digest) == (second.digest, second.samples_digest)
    assert first.safety == second.safety
    assert first.n == 293


def test_an_equal_one_is_answered_at_once_and_shown_by_the_commands(
    platform: LivePlatform, client: Client, suite: str, undisturbed: dict[str, EvaluationView]
) -> None:
    result = platform.run(
        "evals", "run", "builtin/tiny-random", "--suite", suite, "--max-samples", str(_QUESTIONS), "--wait",
        timeout_seconds=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    newest = platform.json("evals", "list", "--limit", "1")["data"][0]
    assert newest["cached_from"] is not None
    events = client.jobs.events(newest["job_id"])
    assert "evaluation.cached" in {event.type for event in events}
    shown = platform.run("evals", "show", newest["id"])
    assert "acc" in shown.stdout
    assert "wilson" in shown.stdout
    compared = platform.json("evals", "compare", undisturbed[suite].id, newest["id"])
    assert [each["verdict"] for each in compared["metrics"]] == ["no difference shown"]


def test_what_was_trained_is_measured_by_its_name_and_from_its_checkpoint(
    platform: LivePlatform, client: Client, suite: str
) -> None:
    training = {"max_steps": 6, "learning_rate": 1e-2, "max_length": 64, "seed": 7}
    trained = client.jobs.submit(
        {
            "api_version": "steelyard/v1",
            "type": "fine_tune",
            "name": "adapted",
            "model": {"name_or_path": "builtin/tiny-random"},
            "dataset": {"ref": "sums"},
            "peft": {"r": 4, "lora_alpha": 8},
            "training": training,
            "checkpoint": {"save_steps": 6},
            "evaluation": {"suites": [suite, "heldout"], "max_samples": 100},
            "resources": {"cpus": 1, "memory_gb": 2.0},
        }
    )
    trained = wait_for_state(client, trained.id, "succeeded", "failed", timeout_seconds=180)
    assert trained.state == "succeeded", trained.status_message
    rows = {(row.subject, row.suite): row for row in client.evaluations.list(job=trained.id).data}
    assert len(rows) == 4

    again = client.jobs.submit(_named("models/adapted@1", suite))
    checkpoint = client.jobs.checkpoints(trained.id)[0]
    anew = client.jobs.submit(_named(f"checkpoints/{checkpoint.id}", suite))
    for job in (again, anew):
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert ended.state == "succeeded", ended.status_message

    known = {row.suite: row for row in client.evaluations.list(job=again.id).data}
    assert {name: row.cached_from for name, row in known.items()} == {
        name: rows["tuned", name].id for name in (suite, "heldout")
    }
    measured = {row.suite: row for row in client.evaluations.list(job=anew.id).data}
    assert {row.cached_from for row in measured.values()} == {None}
    # The last checkpoint has the weights of the finished model.
    assert {name: row.metrics for name, row in measured.items()} == {
        name: row.metrics for name, row in known.items()
    }
    compared = client.evaluations.compare(f"{trained.id}:base", "adapted@1")
    by_name = {each.metric: each for each in compared.metrics}
    assert by_name["heldout/loss"].verdict in ("better", "worse", "no difference shown")
    assert by_name["heldout/loss"].n == rows["tuned", "heldout"].n

    def told() -> dict[str, str]:
        return _mlflow_tags(platform, client, trained.id, "steelyard.evaluation.")

    tags = wait_until(told, "MLflow to be told", 120)
    assert len(tags) == 4
    heldout = rows["tuned", "heldout"]
    assert f"/evaluations/{heldout.id}/samples sha256:" in tags["steelyard.evaluation.tuned.heldout"]


def _mlflow_tags(platform: LivePlatform, client: Client, job: str, prefix: str) -> dict[str, str]:
    token = (platform.home / "secrets" / "admin.token").read_text().strip()
    with httpx.Client(
        base_url=f"{client.api_url}/mlflow/api/2.0/mlflow", headers={"Authorization": f"Bearer {token}"}
    ) as http:
        experiment = http.get("/experiments/get-by-name", params={"experiment_name": "default"}).json()
        wanted = {
            "experiment_ids": [experiment["experiment"]["experiment_id"]],
            "filter": f"tags.`steelyard.job_id` = '{job}'",
        }
        runs: list[dict[str, Any]] = http.post("/runs/search", json=wanted).json().get("runs", [])
    found = {tag["key"]: tag["value"] for run in runs for tag in run["data"]["tags"]}
    return {key: value for key, value in found.items() if key.startswith(prefix)}


def _named(model: str, suite: str) -> dict[str, Any]:
    spec = _spec(suite)
    evaluation = spec["evaluation"] | {"max_samples": 100}
    return spec | {"model": {"name_or_path": model}, "evaluation": evaluation, "max_length": 64}


def _spec(suite: str, *, use_cache: bool = True) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "weigh",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "sums"},
        "evaluation": {"suites": [suite, "heldout"], "max_samples": _QUESTIONS, "use_cache": use_cache},
        "resources": {"cpus": 1, "memory_gb": 2.0},
    }


def _safety() -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "weigh-safety",
        "model": {"name_or_path": "builtin/tiny-random"},
        "evaluation": {"suites": ["safety"], "use_cache": False},
        "resources": {"cpus": 1, "memory_gb": 2.0},
    }


def _results(client: Client, job: str) -> dict[str, EvaluationView]:
    rows = client.evaluations.list(job=job).data
    assert len(rows) == 2
    return {row.suite: client.evaluations.get(row.id) for row in rows}


def _shards(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("evaluations/*/shard-*.json")}
