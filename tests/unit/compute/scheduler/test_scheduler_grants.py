"""Who starts, and where."""

from dataclasses import replace

import pytest
from tests.unit.compute.scheduler.pools import GB, NOW, granted, job, node, quota, run, scene

from steelyard.compute.scheduler import (
    Flavor,
    JobQueue,
    Policy,
    Project,
    QueuedJob,
    Snapshot,
    SpotPolicy,
    decide,
)


def test_a_laptop_runs_cpu_jobs_by_priority_then_arrival() -> None:
    laptop = node("local", 0, cpus=2, flavor="local")
    jobs = [
        job("first", gpus=0, at=1),
        job("second", gpus=0, at=2),
        job("urgent", gpus=0, at=3, priority=501),
    ]
    decisions = decide(scene([laptop], jobs))
    assert granted(decisions) == ["urgent", "first"]
    assert decisions.grants[0].placements[0].node == "local"
    assert decisions.grants[0].placements[0].gpu_ids == ()


def test_sequence_breaks_ties_of_time_and_id_those_of_sequence() -> None:
    jobs = [replace(job("b"), sequence=1), replace(job("c"), sequence=0), replace(job("a"), sequence=1)]
    assert granted(decide(scene([node("n")], jobs))) == ["c", "a", "b"]


def test_the_fullest_node_is_used_up_first() -> None:
    snapshot = scene([node("n0"), node("n1")], [job("q", gpus=2)], [run("r", "p", ("n1", 5))])
    (grant,) = decide(snapshot).grants
    assert grant.placements[0].node == "n1"
    assert grant.placements[0].gpu_ids == ("n1/5", "n1/6")


def test_a_gang_gets_different_nodes_of_one_flavor_or_nothing() -> None:
    nodes = [node("n0", 4), node("n1", 4, flavor="h100"), node("n2", 4)]
    (grant,) = decide(scene(nodes, [job("q", gpus=2, nodes=2)])).grants
    assert [placed.node for placed in grant.placements] == ["n0", "n2"]
    assert granted(decide(scene(nodes, [job("q", gpus=2, nodes=3)]))) == []


def test_a_node_that_is_down_holds_nothing() -> None:
    decisions = decide(scene([node("n", up=False)], [job("q")]))
    assert granted(decisions) == []
    assert decisions.waiting[0].code == "waiting_for_capacity"
    assert "down (n)" in decisions.waiting[0].sentence


def test_projects_take_turns_and_a_heavy_weight_gets_more() -> None:
    jobs = [job(f"{project}{i}", project, at=i) for project in ("ann", "bob") for i in range(8)]
    even = granted(decide(scene([node("n")], jobs)))
    assert sum(name.startswith("ann") for name in even) == 4
    weighted = scene([node("n")], jobs, projects=[Project("ann", weight=3.0), Project("bob", weight=1.0)])
    assert sum(name.startswith("ann") for name in granted(decide(weighted))) == 6


def test_late_use_and_entry_penalty_decide_between_equals() -> None:
    jobs = [job("a", "ann", gpus=8), job("b", "bob", gpus=8)]
    used = [Project("ann", decayed_gpu_seconds=3600.0), Project("bob")]
    assert granted(decide(scene([node("n")], jobs, projects=used))) == ["b"]
    started_just_now = [run("r", "ann", ("n0", 1), ago=1.0), run("s", "bob", ("n0", 1), ago=1e6)]
    both = scene([node("n0"), node("n1")], jobs, started_just_now)
    assert granted(decide(both)) == ["b"]


def test_a_project_of_weight_zero_gets_what_nobody_else_wants() -> None:
    jobs = [job("a", "ann", gpus=8, at=-100), job("b", "bob", gpus=8)]
    projects = [Project("ann", weight=0.0), Project("bob", weight=0.1)]
    snapshot = scene([node("n")], jobs, projects=projects)
    assert granted(decide(snapshot)) == ["b"]
    assert granted(decide(replace(snapshot, queued=(jobs[0],)))) == ["a"]


def test_waiting_raises_priority_only_after_the_grace() -> None:
    old = job("old", gpus=8, at=-174 * 3600.0, priority=500)
    new = job("new", gpus=8, priority=520)
    assert granted(decide(scene([node("n")], [old, new]))) == ["old"]
    newer = job("old", gpus=8, at=-23 * 3600.0, priority=500)
    assert granted(decide(scene([node("n")], [newer, new]))) == ["new"]


@pytest.mark.parametrize(
    ("spot", "retries_left", "expected"),
    [
        (SpotPolicy.NEVER, 1, "firm"),
        (SpotPolicy.PREFER, 1, "spot"),
        (SpotPolicy.PREFER, 0, "firm"),
        (SpotPolicy.ONLY, 0, "spot"),
    ],
)
def test_spot_policy_and_the_last_retry_on_demand(spot: SpotPolicy, retries_left: int, expected: str) -> None:
    nodes = [node("spot", spot=True), node("firm")]
    (grant,) = decide(scene(nodes, [replace(job("q"), spot=spot, retries_left=retries_left)])).grants
    assert grant.placements[0].node == expected


def test_the_cheapest_flavor_is_taken_unless_the_job_has_its_own_order() -> None:
    nodes = [node("dear", flavor="h100"), node("cheap", flavor="t4")]
    prices = (Flavor("h100", 4.0), Flavor("t4", 0.5))
    any_flavor = replace(scene(nodes, [job("q")]), flavors=prices)
    assert decide(any_flavor).grants[0].flavor == "t4"
    ordered = replace(any_flavor, queued=(replace(job("q"), flavors=("h100", "t4")),))
    assert decide(ordered).grants[0].flavor == "h100"
    capped = replace(any_flavor, queued=(replace(job("q"), flavors=("h100",), max_price_per_gpu_hour=3.0),))
    (reason,) = decide(capped).waiting
    assert (reason.code, reason.numbers["cheapest_price"]) == ("price_cap", 4.0)


def test_a_short_job_passes_the_head_only_if_it_ends_in_time() -> None:
    busy = replace(run("r", "p", ("n", 4), ago=600.0, priority=900), max_runtime_seconds=4200.0)
    head = job("head", gpus=8, priority=900, at=-10)
    short = replace(job("short", gpus=1), max_runtime_seconds=3600.0)
    long = replace(job("long", gpus=1), max_runtime_seconds=3601.0)
    endless = job("endless", gpus=1)
    decisions = decide(scene([node("n")], [head, short, long, endless], [busy]))
    assert granted(decisions) == ["short"]


def test_without_limits_small_jobs_pass_the_head_until_its_patience_ends() -> None:
    jobs = [job("head", gpus=8, priority=900, at=-100), job("small")]
    busy = [run("r", "p", ("n", 4), priority=950)]
    assert granted(decide(scene([node("n")], jobs, busy))) == ["small"]
    assert granted(decide(scene([node("n")], jobs, busy, policy=Policy(patience_seconds=50.0)))) == []


def test_a_queue_kept_between_rounds_decides_like_a_tuple() -> None:
    jobs = tuple(job(f"q{i}", "ann" if i % 3 else "bob", gpus=1 + i % 2, at=-i) for i in range(20))
    kept = JobQueue.of(jobs[:10]).plus(jobs[10:]).minus(jobs[3:6])
    left = jobs[:3] + jobs[6:]
    base = Snapshot(NOW, (node("n0"), node("n1", 4)), projects=(quota("ann", 2),))
    assert decide(replace(base, queued=kept)) == decide(replace(base, queued=left))
    assert len(kept) == len(left)


def test_a_job_that_is_not_in_the_queue_cannot_leave_it() -> None:
    with pytest.raises(KeyError):
        JobQueue.of([job("a")]).minus([job("b")])


def test_memory_counts_like_everything_else() -> None:
    hungry = QueuedJob("q", "p", NOW, cpus=1, memory_bytes=200 * GB)
    decisions = decide(scene([node("n", 0, cpus=64)], [hungry, replace(hungry, id="r")]))
    assert granted(decisions) == ["q"]
