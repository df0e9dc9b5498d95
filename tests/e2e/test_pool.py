"""A pool of simulated GPUs on this machine: lent, reclaimed by checkpoint, and none the worse for it."""

import json
from typing import Any

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_for_step
from tests.e2e.specs import SAVE_STEPS, script_spec, sums_spec

from steelyard.client import Client
from steelyard.specs.views import JobView

_GPUS = {"cpus": 1, "memory_gb": 1.0, "gpus": 2}
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_borrower_makes_room_by_checkpoint_and_both_end_as_undisturbed(pool: LivePlatform) -> None:
    rules = pool.json("pool", "show")["settings"]
    rules["policy"]["min_runtime_seconds"] = 0.0
    (pool.home / "rules.json").write_text(json.dumps(rules))
    pool.json("pool", "set", "--from-file", str(pool.home / "rules.json"))
    pool.json("quota", "set", "owners", "--flavor", "sim", "--nominal", "2")
    with pool.client() as borrower, Client(home=pool.home, project="owners") as owner:
        undisturbed = wait_for_state(owner, owner.jobs.submit(_spec()).id, "succeeded", "failed")
        assert undisturbed.state == "succeeded", undisturbed.status_message
        lent = borrower.jobs.submit(_spec())
        wait_for_step(borrower, lent.id, SAVE_STEPS * 2)
        owned = owner.jobs.submit(script_spec("owned", resources=_GPUS))
        assert wait_for_state(owner, owned.id, "succeeded", "failed").state == "succeeded"
        preempted = wait_for_state(borrower, lent.id, "succeeded", "failed")
    assert preempted.state == "succeeded", preempted.status_message
    assert [attempt.cause for attempt in preempted.attempts] == ["preempted", "completed"]
    assert preempted.retries_used == 0
    assert preempted.attempts[1].resumed_from_step == preempted.attempts[0].last_step
    assert _weights(preempted) == _weights(undisturbed)


def test_an_interrupted_node_saves_its_jobs_and_takes_them_back(pool: LivePlatform) -> None:
    node = pool.json("pool", "nodes")["data"][0]["name"]
    with pool.client() as client:
        job = client.jobs.submit({**_spec(), "training": {**_spec()["training"], "max_steps": 300}})
        wait_for_step(client, job.id, SAVE_STEPS)
        view = pool.json("pool", "interrupt", node, "--in-seconds", "60", "--reason", "a test")
        assert view["state"] == "interrupted"
        wait_for_state(client, job.id, "queued")
        explained = client.jobs.explain(job.id)
        assert explained.queue_position == 1
        assert f"node {node} is down or being taken away" in explained.waiting_for
        pool.json("pool", "restore", node)
        ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert [attempt.cause for attempt in ended.attempts] == ["spot_interrupted", "completed"]
    assert ended.retries_used == 0


def _spec() -> dict[str, Any]:
    return {**sums_spec("on-gpus", max_steps=500), "resources": _GPUS}


def _weights(job: JobView) -> str:
    assert job.model is not None
    return job.model.manifest_digest
