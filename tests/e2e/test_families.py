"""A search as a whole: real trials, killed processes, one model, and a ledger that adds up."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until
from tests.e2e.specs import sums_spec

from steelyard.client import Client
from steelyard.specs.views import JobSummary, JobView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
TRIALS = 3
STEPS = 150


@pytest.fixture(scope="module")
def client(pool: LivePlatform) -> Iterator[Client]:
    with pool.client() as client:
        yield client


def search_of_sums(name: str) -> dict[str, Any]:
    """A search over learning rates, two trials at a time, each with a GPU."""
    trial = sums_spec(name)
    trial["resources"] = {"cpus": 1, "memory_gb": 1.0, "gpus": 1}
    trial["limits"]["max_runtime_seconds"] = 3600
    trial["training"]["max_steps"] = STEPS
    return {
        "api_version": "steelyard/v1",
        "type": "hpo",
        "name": name,
        "search": {
            "algorithm": "grid",
            "metric": "train/loss",
            "direction": "minimize",
            "parameters": {"training.learning_rate": {"type": "choice", "values": [1.0e-4, 1.0e-3, 3.0e-3]}},
            "max_trials": TRIALS,
            "max_concurrent_trials": 2,
        },
        "trial": trial,
    }


def children_of(client: Client, parent: str) -> list[JobSummary]:
    """Return a search's trials, oldest first."""
    return client.jobs.list(parent=parent).data[::-1]


def wait_for_training(client: Client, parent: str) -> None:
    """Wait until some trial trains."""

    def trains() -> bool:
        return any(child.progress.step >= 20 for child in children_of(client, parent))

    wait_until(trains, "a trial to train", 120)


def require_whole(client: Client, parent: JobView) -> None:
    """Each trial is there once, ran once, and the best one is the model."""
    assert parent.state == "succeeded", parent.status_message
    children = [client.jobs.get(child.id) for child in children_of(client, parent.id)]
    assert [child.state for child in children] == ["succeeded"] * TRIALS
    rates = [child.spec["training"]["learning_rate"] for child in children]
    assert sorted(rates) == [1.0e-4, 1.0e-3, 3.0e-3]
    assert parent.model is not None
    assert parent.model.name == parent.name
    best = min(children, key=lambda child: child.metrics["train/loss"])
    assert [child.id for child in children if child.model is not None] == [best.id]
    assert parent.metrics == best.metrics
    require_paid(client, parent, children)


def require_paid(client: Client, parent: JobView, children: list[JobView]) -> None:
    """The ledger adds up, the search has cost what its trials have, and nothing is held any more."""
    assert client.costs.verify().faults == []
    costs = [child.cost for child in children if child.cost is not None]
    assert len(costs) == TRIALS
    assert parent.cost is not None
    # Each is rounded for itself.
    assert float(parent.cost.gpu_hours) == pytest.approx(
        float(sum(cost.gpu_hours for cost in costs)), abs=1e-8
    )
    assert parent.cost.gpu_hours > 0
    assert parent.cost.reserved_gpu_hours == 0


def test_a_search_survives_whatever_is_killed_and_makes_each_trial_once(
    pool: LivePlatform, client: Client
) -> None:
    parent = client.jobs.submit(search_of_sums("killed-search"))
    cost = client.jobs.get(parent.id).cost
    assert cost is not None
    assert TRIALS - 0.1 < cost.reserved_gpu_hours <= TRIALS
    for process in ("worker-1", "postgres", "temporal"):
        wait_for_training(client, parent.id)
        pool.kill(process)
    ended = wait_for_state(client, parent.id, "succeeded", "failed", timeout_seconds=240)
    require_whole(client, ended)


def test_a_search_pauses_goes_on_and_is_retried_after_a_cancel(pool: LivePlatform, client: Client) -> None:
    parent = client.jobs.submit(search_of_sums("paused-search")).id
    wait_for_training(client, parent)
    client.jobs.pause(parent)
    wait_for_state(client, parent, "paused")
    assert {child.state for child in children_of(client, parent)} <= {"paused", "succeeded"}
    refused = pool.run("logs", parent)
    assert refused.returncode != 0
    assert children_of(client, parent)[0].id in refused.stderr
    client.jobs.resume(parent)
    wait_for_state(client, parent, "running")
    client.jobs.cancel(parent)
    wait_for_state(client, parent, "cancelled")
    client.jobs.retry(parent)
    require_whole(client, wait_for_state(client, parent, "succeeded", "failed", timeout_seconds=240))
