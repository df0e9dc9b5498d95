"""What a round costs, counted in looks at lanes, nodes and victims: the same on every machine."""

import random

import pytest
from tests.unit.compute.scheduler.pools import GB, NOW, node, quota, run, scene

from steelyard.compute.scheduler import NodeShare, QueuedJob, Snapshot, decide

PROJECTS = [f"p{i}" for i in range(20)]


def crowd(count: int, *, distinct_priorities: bool) -> Snapshot:
    """`count` jobs of 20 projects behind 50 busy nodes."""
    rng = random.Random(count)
    nodes = [node(f"n{i:02}") for i in range(50)]
    running = [run(f"r{i:02}", rng.choice(PROJECTS), (f"n{i:02}", 6)) for i in range(50)]
    queued = [
        QueuedJob(
            f"q{i:05}",
            rng.choice(PROJECTS),
            NOW - rng.random() * 1e5,
            cpus=rng.choice((1, 4)),
            memory_bytes=GB,
            gpus=rng.choice((1, 2, 4, 8)),
            nodes=rng.choice((1, 1, 2)),
            priority=rng.randrange(1001) if distinct_priorities else rng.choice((100, 500, 900)),
            max_runtime_seconds=rng.choice((3600.0, 86400.0)),
        )
        for i in range(count)
    ]
    return scene(nodes, queued, running, [quota(project, 20) for project in PROJECTS])


@pytest.mark.parametrize(("distinct", "most"), [(False, 1.5), (True, 5.0)])
def test_ten_times_the_queue_is_far_less_than_ten_times_the_work(distinct: bool, most: float) -> None:
    small = decide(crowd(1_000, distinct_priorities=distinct))
    large = decide(crowd(10_000, distinct_priorities=distinct))
    assert large.steps < most * small.steps
    assert small.steps < 12_000, "some 320 kinds of jobs on 50 nodes: not every kind looks at every node"
    assert len(large.waiting) + len(large.grants) == 10_000


def test_many_grants_in_one_round_look_at_each_node_a_few_times_only() -> None:
    nodes = [node(f"n{i:03}") for i in range(400)]
    queued = [QueuedJob(f"q{i:04}", "p", NOW + i, cpus=1, gpus=1) for i in range(3_200)]
    decisions = decide(scene(nodes, queued))
    assert len(decisions.grants) == 3_200
    assert decisions.steps < 4 * (len(nodes) + len(queued))


def test_preemption_gives_up_early_when_no_victim_can_help() -> None:
    nodes = [node(f"n{i:02}") for i in range(50)]
    running = [run(f"r{i:02}", "ann", (f"n{i:02}", 8), ago=1.0) for i in range(50)]
    queued = [QueuedJob(f"q{i:04}", "bob", NOW, gpus=1 + i % 8, priority=i % 1000) for i in range(1_000)]
    decisions = decide(scene(nodes, queued, running, [quota("bob", 400)]))
    assert decisions.preemptions == ()
    assert decisions.steps < 10 * (len(nodes) + len(queued))


def test_shares_of_nodes_that_are_gone_are_no_trouble() -> None:
    ghost = run("ghost", "ann", ("lost", 1))
    snapshot = scene([node("n")], [QueuedJob("q", "bob", NOW, gpus=8)])
    assert decide(Snapshot(NOW, snapshot.nodes, snapshot.queued, (ghost,))).grants
    assert ghost.placements == (NodeShare("lost", 1, GB, 1),)
