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
        run("a", "p", ("n", 4), ago=8000.0),
        run("b", "p", ("n", 4), ago=5000.0, ran=50_000.0),
    ]
    decisions = decide(scene([node("n")], [job("fresh", at=-600.0, gpus=4)], running))
    assert preempted(decisions) == ["b"]
    assert decisions.preemptions[0].reason is PreemptionRule.TURN


def test_a_turn_counts_gpu_seconds() -> None:
    queued = [job("fresh", at=-600.0, gpus=8)]
    wide = [run("wide", "p", ("n", 8), ago=1900.0)]
    assert preempted(decide(scene([node("n")], queued, wide))) == ["wide"]
    narrow = [run(f"r{i}", "p", ("n", 1), ago=1900.0) for i in range(8)]
    assert preempted(decide(scene([node("n")], queued, narrow))) == []


def test_each_turn_begins_with_a_start_and_is_four_times_as_long_as_the_one_before() -> None:
    queued = [job("fresh", at=-600.0, gpus=8)]
    for evictions, ago, leaves in (
        (0, 1799.0, False),
        (0, 1801.0, True),
        (1, 7199.0, False),
        (2, 28_801.0, True),
    ):
        victim = run("a", "p", ("n", 8), ago=ago, ran=9e5, evictions=evictions)
        assert bool(preempted(decide(scene([node("n")], queued, [victim])))) is leaves, (evictions, ago)


def test_nobody_leaves_for_a_turn_who_is_above_young_or_was_evicted_too_often() -> None:
    queued = [job("fresh", at=-600.0, gpus=8)]
    for spared in (
        run("high", "p", ("n", 8), ago=9000.0, priority=501),
        run("young", "p", ("n", 8), ago=500.0, ran=9000.0),
        run("tired", "p", ("n", 8), ago=9000.0, evictions=3),
        replace(run("unsaved", "p", ("n", 8), ago=9000.0), saves=False),
    ):
        assert preempted(decide(scene([node("n")], queued, [spared]))) == [], spared.job_id


def test_nobody_leaves_for_a_turn_before_it_has_waited_whether_room_comes_by_itself() -> None:
    running = [run("a", "p", ("n", 8), ago=9000.0)]
    assert preempted(decide(scene([node("n")], [job("b", at=-299.0, gpus=8)], running))) == []
    assert preempted(decide(scene([node("n")], [job("b", at=-300.0, gpus=8)], running))) == ["a"]


def test_a_fresh_job_takes_lent_gpus_of_another_project_of_a_quarter_of_its_share_or_more() -> None:
    running = [
        run("p1", "p", ("n", 2), ago=9000.0),
        run("q1", "q", ("n", 5), ago=20_000.0, evictions=3),
        run("q2", "q", ("n", 1), ago=16_000.0),
    ]
    fresh = job("fresh", "q", at=-600.0, gpus=1)
    within = scene([node("n")], [fresh], running, [quota("q", 0), quota("p", 2)])
    own_first = decide(within)
    assert preempted(own_first) == ["q2"], "a job of its own project leaves first"
    other = [running[0], replace(running[1], project="r"), replace(running[2], project="r")]
    borrowing = scene([node("n")], [fresh], other, [quota("p", 2)])
    decisions = decide(borrowing)
    assert [(each.job_id, each.reason) for each in decisions.preemptions] == [
        ("q2", PreemptionRule.LENT_TURN)
    ]
    guaranteed = scene([node("n")], [fresh], other, [quota("p", 2), quota("r", 6)])
    assert preempted(decide(guaranteed)) == [], "what is guaranteed is nobody's to take"


def test_an_advance_is_all_that_short_jobs_get() -> None:
    running = [
        run("mine", "q", ("n", 4), ago=700.0, ran=0.0, evictions=3),
        run("a", "p", ("n", 2), ago=9000.0),
        run("b", "p", ("n", 2), ago=8000.0),
    ]
    fresh = job("fresh", "q", at=-600.0, gpus=2)
    for advance, victims in ((1.0, []), (2.9, []), (3.0, ["a"])):
        policy = Policy(turn_advance=advance)
        found = preempted(decide(scene([node("n")], [fresh], running, policy=policy)))
        assert found == victims, advance


def test_fresh_jobs_go_first_where_gpus_are_lent_unless_their_project_holds_four_times_as_much() -> None:
    old = job("old", "p", at=-5000.0, gpus=4, ran=9000.0)
    fresh = job("fresh", "q", gpus=4)
    for mine, first in ((3, "fresh"), (5, "old")):
        running = [run("p1", "p", ("m", 1)), run("q1", "q", ("m", mine))]
        crowd = [old, fresh]
        nodes = [node("m", gpus=mine + 1), node("n", gpus=4)]
        policy = Policy(usage_weight=0.0)
        assert granted(decide(scene(nodes, crowd, running, policy=policy))) == [first], mine


def test_who_has_had_its_turn_takes_nobodys_place() -> None:
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    assert preempted(decide(scene([node("n")], [job("b", at=-6000.0, gpus=8, ran=2000.0)], running))) == []


def test_who_has_waited_beyond_patience_has_a_turn_again() -> None:
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    late = job("b", at=-8 * 86_400.0, gpus=8, ran=2000.0)
    assert preempted(decide(scene([node("n")], [late], running))) == ["a"]
    assert preempted(decide(scene([node("n")], [replace(late, ran_seconds=2 * 86_400.0)], running))) == []


def test_without_the_rule_only_the_order_is_left() -> None:
    policy = Policy(preemption=frozenset((PreemptionRule.RECLAIM, PreemptionRule.PRIORITY)))
    running = [run("a", "p", ("n", 8), ago=90_000.0)]
    fresh = job("b", at=-600.0, gpus=8)
    assert preempted(decide(scene([node("n")], [fresh], running, policy=policy))) == []


def test_a_turn_also_frees_quota() -> None:
    running = [run("a", "p", ("n", 4), ago=9000.0)]
    decisions = decide(scene([node("n")], [job("b", at=-600.0, gpus=4)], running, [quota("p", 4, borrow=0)]))
    assert preempted(decisions) == ["a"]


def test_time_in_which_a_job_ran_is_no_waiting() -> None:
    day = 86_400.0
    waited = job("waited", at=-9 * day, gpus=8, priority=400)
    ran = job("ran", at=-15 * day, gpus=8, priority=400, ran=8.5 * day)
    fresh = job("fresh", gpus=8, priority=500)
    assert granted(decide(scene([node("n")], [waited, ran, fresh]))) == ["waited"]
    assert granted(decide(scene([node("n")], [ran, fresh]))) == ["fresh"]


def test_nobody_leaves_for_a_job_whose_nodes_are_kept_until_others_have_left() -> None:
    leaving = replace(run("leaving", "p", ("n2", 8), ago=10.0), stopping=True)
    turned = run("turned", "p", ("n2", 0), ago=15_000.0, priority=400)
    wanted = job("wanted", gpus=8, nodes=2)
    nodes = [node("n1"), node("n2")]
    policy = Policy(patience_seconds=0.0)
    decisions = decide(scene(nodes, [wanted], [leaving, turned], [quota("p", 16)], policy))
    assert preempted(decisions) == []
    assert [nomination.job_id for nomination in decisions.nominations] == ["wanted"]
