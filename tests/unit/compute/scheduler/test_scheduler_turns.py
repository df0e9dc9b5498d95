"""Of equal priority, who has not had its turn goes before who has, and may take its place."""

from dataclasses import replace

from tests.unit.compute.scheduler.pools import granted, job, node, preempted, quota, run, scene

from steelyard.compute.scheduler import Policy, PreemptionRule, decide


def test_of_equal_priority_those_that_have_not_had_their_turn_start_first() -> None:
    old = job("old", at=-5000.0, gpus=8, ran=9000.0)
    fresh = job("fresh", gpus=8)
    assert granted(decide(scene([node("n")], [old, fresh]))) == ["fresh"]
    urgent = replace(old, priority=501)
    assert granted(decide(scene([node("n")], [urgent, fresh]))) == ["old"]


def test_a_fresh_job_takes_the_place_of_the_one_that_ran_longest() -> None:
    running = [
        run("a", "p", ("n", 4), ago=4000.0),
        run("b", "p", ("n", 4), ago=3000.0, ran=50_000.0),
    ]
    decisions = decide(scene([node("n")], [job("fresh", gpus=4)], running))
    assert preempted(decisions) == ["b"]
    assert decisions.preemptions[0].reason is PreemptionRule.TURN


def test_a_turn_counts_gpu_seconds() -> None:
    queued = [job("fresh", gpus=8)]
    wide = [run("wide", "p", ("n", 8), ago=700.0)]
    assert preempted(decide(scene([node("n")], queued, wide))) == ["wide"]
    narrow = [run(f"r{i}", "p", ("n", 1), ago=700.0) for i in range(8)]
    assert preempted(decide(scene([node("n")], queued, narrow))) == []


def test_each_turn_begins_with_a_start_and_is_four_times_as_long_as_the_one_before() -> None:
    queued = [job("fresh", gpus=8)]
    for evictions, ago, leaves in (
        (0, 451.0, False),
        (0, 601.0, True),
        (1, 1799.0, False),
        (2, 7201.0, True),
    ):
        victim = run("a", "p", ("n", 8), ago=ago, ran=9e5, evictions=evictions)
        assert bool(preempted(decide(scene([node("n")], queued, [victim])))) is leaves, (evictions, ago)


def test_nobody_leaves_for_a_turn_who_is_above_young_or_was_evicted_too_often() -> None:
    queued = [job("fresh", gpus=8)]
    for spared in (
        run("high", "p", ("n", 8), ago=9000.0, priority=501),
        run("young", "p", ("n", 8), ago=500.0, ran=9000.0),
        run("tired", "p", ("n", 8), ago=9000.0, evictions=3),
        run("other", "q", ("n", 8), ago=9000.0),
        replace(run("unsaved", "p", ("n", 8), ago=9000.0), saves=False),
    ):
        assert preempted(decide(scene([node("n")], queued, [spared]))) == [], spared.job_id


def test_who_has_had_its_turn_takes_nobodys_place() -> None:
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    assert preempted(decide(scene([node("n")], [job("b", gpus=8, ran=600.0)], running))) == []


def test_who_has_waited_beyond_patience_has_a_turn_again() -> None:
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    late = job("b", at=-8 * 86_400.0, gpus=8, ran=600.0)
    assert preempted(decide(scene([node("n")], [late], running))) == ["a"]
    assert preempted(decide(scene([node("n")], [replace(late, ran_seconds=2 * 86_400.0)], running))) == []


def test_without_the_rule_only_the_order_is_left() -> None:
    policy = Policy(preemption=frozenset((PreemptionRule.RECLAIM, PreemptionRule.PRIORITY)))
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    assert preempted(decide(scene([node("n")], [job("b", gpus=8)], running, policy=policy))) == []


def test_a_turn_also_frees_quota() -> None:
    running = [run("a", "p", ("n", 4), ago=9000.0)]
    decisions = decide(scene([node("n")], [job("b", gpus=4)], running, [quota("p", 4, borrow=0)]))
    assert preempted(decisions) == ["a"]


def test_time_in_which_a_job_ran_is_no_waiting() -> None:
    day = 86_400.0
    waited = job("waited", at=-3 * day, gpus=8, priority=400)
    ran = job("ran", at=-9 * day, gpus=8, priority=400, ran=8.5 * day)
    fresh = job("fresh", gpus=8, priority=500)
    assert granted(decide(scene([node("n")], [waited, ran, fresh]))) == ["waited"]
    assert granted(decide(scene([node("n")], [ran, fresh]))) == ["fresh"]


def test_nobody_leaves_for_a_job_whose_nodes_are_kept_until_others_have_left() -> None:
    leaving = replace(run("leaving", "p", ("n2", 8), ago=10.0), stopping=True)
    turned = run("turned", "p", ("n2", 0), ago=5000.0, priority=400)
    wanted = job("wanted", gpus=8, nodes=2)
    nodes = [node("n1"), node("n2")]
    policy = Policy(patience_seconds=0.0)
    decisions = decide(scene(nodes, [wanted], [leaving, turned], [quota("p", 16)], policy))
    assert preempted(decisions) == []
    assert [nomination.job_id for nomination in decisions.nominations] == ["wanted"]
