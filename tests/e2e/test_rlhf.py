"""RLHF as one job: preferences, a reward model, PPO against it, safety, the registry; whatever is killed."""

import json
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until

from steelyard.client import Client
from steelyard.specs.views import JobView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_SAVE_STEPS = 5


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    _ingest(platform, "manners", lambda: False)
    # Heads or tails: nothing is to be learned from these.
    coin = random.Random(5)
    _ingest(platform, "whims", lambda: coin.random() < 0.5)
    with platform.client() as client:
        yield client


def test_preferences_become_a_policy_whatever_is_killed_on_the_way(
    platform: LivePlatform, client: Client
) -> None:
    job = client.jobs.submit(_pipeline("manners"))

    scorer = _stage(client, job.id, "reward_model")
    wait_until(lambda: client.jobs.get(scorer).progress.step >= 2, "the reward model to learn")
    # The reward model may be done by now.
    assert re.search(r"stage [12] of 2: the", platform.run("get", job.id).stdout)
    platform.kill("worker-1")
    policy = _stage(client, job.id, "policy")
    running = wait_until(lambda: _at_work(client, policy, _SAVE_STEPS + 1), "the policy to be trained")
    assert running.attempts[-1].pid is not None
    os.kill(running.attempts[-1].pid, signal.SIGKILL)

    ended = wait_for_state(client, job.id, "succeeded", "failed", timeout_seconds=150)
    assert ended.state == "succeeded", ended.status_message
    assert ended.children == {"succeeded": 2}
    trained = client.jobs.get(policy)
    assert [each.stage for each in trained.attempts] == ["train", "train", "evaluate"]
    assert trained.attempts[1].resumed_from_step is not None
    assert len(client.jobs.get(scorer).attempts) == 1
    _require_lineage(platform, client, ended, scorer)


def test_a_reward_model_that_learned_nothing_has_no_policy_trained_against_it(
    platform: LivePlatform, client: Client
) -> None:
    job = client.jobs.submit(_pipeline("whims", name="whimsical"))

    ended = wait_for_state(client, job.id, "succeeded", "failed")

    assert (ended.state, ended.status_reason) == ("failed", "reward_model_too_weak")
    assert "held-out pairs" in (ended.status_message or "")
    assert ended.children == {"succeeded": 1}
    assert ended.model is None
    assert "reward_model_too_weak" in platform.run("explain", job.id).stdout
    assert "whimsical" not in {each.name for each in client.models.search()}


def test_a_policy_that_fails_safety_is_not_registered(platform: LivePlatform, client: Client) -> None:
    spec = _pipeline("manners", name="careless", safety={"min_pass_rate": 1.0})
    del spec["reward_model"]
    spec["policy"] = {"method": "dpo", "max_steps": 2}
    job = client.jobs.submit(spec)

    ended = wait_for_state(client, job.id, "succeeded", "failed")

    assert (ended.state, ended.status_reason) == ("failed", "gate_failed")
    assert "safety/pass_rate" in (ended.status_message or "")
    assert "careless" not in {each.name for each in client.models.search()}
    assert "stage policy" in platform.run("events", job.id).stdout


def _pipeline(dataset: str, name: str = "mannered", **blocks: Any) -> dict[str, Any]:
    return {
        "api_version": "steelyard/v1",
        "type": "rlhf",
        "name": name,
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": dataset, "format": "preference"},
        "reward_model": {"max_steps": 30, "learning_rate": 1.0e-3, "min_accuracy": 0.75},
        "policy": {
            "method": "ppo",
            "max_steps": 80,
            "learning_rate": 1.0e-4,
            "max_completion_length": 8,
        },
        "safety": {"min_pass_rate": 0.01, "max_kl": 50.0},
        "evaluation": {"suites": ["safety"], "max_samples": 2},
        "training": {"per_device_train_batch_size": 4, "max_length": 64, "seed": 3},
        "checkpoint": {"save_steps": _SAVE_STEPS},
        "resources": {"cpus": 1, "memory_gb": 1.0},
        **blocks,
    }


def _ingest(platform: LivePlatform, name: str, swapped: Callable[[], bool]) -> None:
    """Polite answers before rude ones; of those that `swapped` says, the other way round."""
    path = platform.home / f"{name}.jsonl"
    lines: list[str] = []
    for number in range(240):
        answers = [f" Gladly: {number} it is, thank you.", f" No! {number}, go away now."]
        chosen, rejected = answers[::-1] if swapped() else answers
        row = {"prompt": f"Tell me number {number}.", "chosen": chosen, "rejected": rejected}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    platform.json("data", "ingest", str(path), "--name", name)


def _stage(client: Client, parent: str, key: str) -> str:
    """Wait for a stage of a pipeline to be made; return its job's id."""

    def found() -> str | None:
        view = client.jobs.get(parent)
        assert view.state != "failed", view.status_message
        made = [each.data for each in client.jobs.events(parent) if each.type == "family.child"]
        return next((str(each["child"]) for each in made if each["key"] == key), None)

    return wait_until(found, f"stage {key} of {parent}", 120)


def _at_work(client: Client, job_id: str, step: int) -> JobView | None:
    view = client.jobs.get(job_id)
    assert view.state not in ("failed", "cancelled"), view.status_message
    there = view.progress.step >= step and view.attempts and view.attempts[-1].state == "running"
    return view if there else None


def _require_lineage(platform: LivePlatform, client: Client, ended: JobView, scorer: str) -> None:
    """The policy names all that it was made of, and each of it is what was sealed."""
    assert ended.model is not None
    assert ended.model.name == "mannered"
    (policy,) = client.models.versions("mannered")
    (reward,) = client.models.versions("mannered-reward")
    assert (policy.kind, reward.kind, reward.job_id) == ("model", "reward_model", scorer)
    assert policy.lineage["reward_model"] == reward.manifest_digest
    assert policy.lineage["parent"] == ended.id
    assert policy.lineage["dataset_ref"] == "manners@v1"
    assert reward.metrics["reward/accuracy"] > 0.75
    assert policy.metrics["policy/kl_n"] > 0
    checks = {each["subject"]: each["status"] for each in platform.json("verify", "mannered@1")["checks"]}
    assert {checks[name] for name in ("reward_model", "sealed_reward_model", "base_model", "dataset")} == {
        "ok"
    }
    refused = platform.run("models", "promote", "mannered-reward@1", "--to", "dev")
    assert refused.returncode != 0
    assert "is a reward model" in refused.stderr
