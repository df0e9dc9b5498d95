"""Nominal quotas, borrowing, lending, and the preemptions that give them back."""

from dataclasses import replace

from tests.unit.compute.scheduler.pools import EAGER, granted, job, node, preempted, quota, run, scene

from steelyard.compute.scheduler import Policy, PreemptionRule, decide


def test_idle_quota_is_borrowed_up_to_the_limit() -> None:
    jobs = [job(f"q{i}", "ann", at=i) for i in range(8)]
    decisions = decide(scene([node("n")], jobs, projects=[quota("ann", 2, borrow=3), quota("bob", 6)]))
    assert granted(decisions) == ["q0", "q1", "q2", "q3", "q4"]
    assert [grant.borrowed for grant in decisions.grants] == [False, False, True, True, True]
    reason = decisions.waiting[0]
    assert reason.code == "quota_exceeded"
    assert (reason.numbers["used_gpus"], reason.numbers["limit_gpus"]) == (5, 5)


def test_a_lender_keeps_what_it_does_not_lend() -> None:
    jobs = [job(f"q{i}", "ann", at=i) for i in range(8)]
    decisions = decide(scene([node("n")], jobs, projects=[quota("ann", 2), quota("bob", 6, lend=4)]))
    assert len(decisions.grants) == 6
    assert decisions.waiting[0].code == "quota_exceeded"
    assert "don't lend" in decisions.waiting[0].sentence


def test_the_guaranteed_go_before_borrowers_with_higher_priority() -> None:
    jobs = [job("borrower", "ann", gpus=8, priority=1000, at=-9), job("owner", "bob", gpus=8)]
    decisions = decide(scene([node("n")], jobs, projects=[quota("bob", 8)]))
    assert granted(decisions) == ["owner"]


def test_reclaim_takes_the_youngest_of_lowest_priority_from_the_highest_share() -> None:
    running = [
        run("a1", "ann", ("n0", 2), ago=9000),
        run("a2", "ann", ("n0", 2), ago=8000, priority=900),
        run("a3", "ann", ("n0", 2), ago=7000),
        run("c1", "cy", ("n0", 2), ago=6000),
    ]
    decisions = decide(scene([node("n0")], [job("q", "bob", gpus=2)], running, [quota("bob", 2)]))
    assert preempted(decisions) == ["a3"]
    assert decisions.preemptions[0].reason is PreemptionRule.RECLAIM
    assert decisions.nominations[0].nodes == ("n0",)
    assert decisions.waiting[0].code == "waiting_for_preemption"


def test_a_round_asks_some_to_leave_and_the_next_ones_the_rest() -> None:
    names = [f"n{i:02}" for i in range(40)]
    waiting = [job(f"q{i:02}", "bob", gpus=8, at=i) for i in range(40)]
    running = [run(f"r{name}-{k}", "ann", (name, 1)) for name in names for k in range(8)]
    leaving: set[str] = set()
    nominated: dict[str, tuple[str, ...]] = {}
    rounds: list[int] = []
    while len(rounds) < 10:
        told = [replace(each, stopping=each.job_id in leaving) for each in running]
        queued = [replace(each, nominated_nodes=nominated.get(each.id, ())) for each in waiting]
        decisions = decide(scene([node(name) for name in names], queued, told, [quota("bob", 320)]))
        nominated = {each.job_id: each.nodes for each in decisions.nominations}
        leaving |= set(preempted(decisions))
        rounds.append(len(decisions.preemptions))
    assert rounds == [64] * 5 + [0] * 5
    assert len(nominated) == 40


def test_nobody_is_preempted_within_quota_too_young_or_too_often() -> None:
    projects = [quota("ann", 8), quota("bob", 8)]
    wanted = [job("q", "bob", gpus=8)]
    within = scene([node("n")], wanted, [run("r", "ann", ("n", 8))], projects)
    assert decide(within).preemptions == ()
    borrowing = [quota("bob", 8)]
    young = scene([node("n")], wanted, [run("r", "ann", ("n", 8), ago=599.0)], borrowing)
    assert decide(young).preemptions == ()
    weary = scene([node("n")], wanted, [run("r", "ann", ("n", 8), evictions=3)], borrowing)
    assert decide(weary).preemptions == ()
    bound = scene([node("n")], wanted, [replace(run("r", "ann", ("n", 8)), preemptible=False)], borrowing)
    assert decide(bound).preemptions == ()
    free_to_go = scene([node("n")], wanted, [run("r", "ann", ("n", 8))], borrowing)
    assert preempted(decide(free_to_go)) == ["r"]


def test_only_those_are_preempted_whose_going_helps() -> None:
    running = [
        run("young", "ann", ("n0", 1), ago=1000),
        run("other", "ann", ("n0", 7), ago=5000, evictions=3),
        run("wide", "ann", ("n1", 8), ago=9000),
    ]
    snapshot = scene([node("n0"), node("n1")], [job("q", "bob", gpus=8)], running, [quota("bob", 8)])
    assert preempted(decide(snapshot)) == ["wide"]


def test_who_was_chosen_first_stays_if_a_later_victim_is_enough() -> None:
    running = [
        run("young", "ann", ("n0", 1), ago=1000),
        run("wide", "ann", ("n1", 8), ago=5000),
        run("old", "ann", ("n0", 7), ago=9000),
    ]
    snapshot = scene([node("n0"), node("n1")], [job("q", "bob", gpus=8)], running, [quota("bob", 8)])
    assert preempted(decide(snapshot)) == ["wide"]


def test_reclaim_stops_where_the_lender_is_back_at_its_own_quota() -> None:
    running = [run("a1", "ann", ("n", 2)), run("a2", "ann", ("n", 2)), run("c", "cy", ("n", 4))]
    projects = [quota("ann", 3), quota("bob", 4), quota("cy", 4)]
    one_is_enough = scene([node("n")], [job("q", "bob", gpus=2)], running, projects)
    assert len(decide(one_is_enough).preemptions) == 1
    too_much = scene([node("n")], [job("q", "bob", gpus=4)], running, projects)
    assert decide(too_much).preemptions == ()


def test_nobody_is_preempted_where_room_is_coming_elsewhere() -> None:
    running = [run("low", "p", ("n0", 8), priority=1), replace(run("r", "p", ("n1", 8)), stopping=True)]
    nodes = [node("n0"), node("n1", flavor="h100")]
    decisions = decide(scene(nodes, [job("q", "p", gpus=8)], running))
    assert decisions.preemptions == ()
    assert decisions.nominations[0].nodes == ("n1",)


def test_raised_priority_preempts_within_the_project_only() -> None:
    running = [run("mine", "ann", ("n", 4), ago=800.0), run("theirs", "bob", ("n", 4), priority=100)]
    raised = scene([node("n")], [job("q", "ann", gpus=4, priority=501)], running)
    assert preempted(decide(raised)) == ["mine"]
    equal = scene([node("n")], [job("q", "ann", gpus=4, priority=500)], running)
    assert decide(equal).preemptions == ()
    margin = replace(raised, policy=Policy(priority_margin=100))
    assert decide(margin).preemptions == ()


def test_priority_also_preempts_for_quota() -> None:
    running = [run("low", "ann", ("n", 4), priority=100)]
    snapshot = scene(
        [node("n")], [job("q", "ann", gpus=4, priority=900)], running, [quota("ann", 4, borrow=0)]
    )
    assert preempted(decide(snapshot)) == ["low"]


def test_fair_share_moves_towards_equality_and_never_beyond() -> None:
    running = [run("r1", "ann", ("n", 4), ago=9000), run("r2", "ann", ("n", 4), ago=8000)]
    half = scene([node("n")], [job("q", "bob", gpus=4)], running, policy=EAGER)
    assert preempted(decide(half)) == ["r2"]
    assert decide(half).preemptions[0].reason is PreemptionRule.FAIR_SHARE
    more = scene([node("n")], [job("q", "bob", gpus=5)], running, policy=EAGER)
    assert decide(more).preemptions == ()


def test_room_that_is_made_goes_to_whom_it_was_made_for() -> None:
    victim = replace(run("r", "ann", ("n", 4)), stopping=True)
    claim = replace(job("q", "bob", gpus=8), nominated_nodes=("n",))
    passer_by = job("small", "cy", priority=1000, at=-1000)
    projects = [quota("bob", 8)]
    going = decide(scene([node("n")], [claim, passer_by], [victim], projects))
    assert granted(going) == []
    assert going.preemptions == ()
    assert [nomination.job_id for nomination in going.nominations] == ["q"]
    gone = decide(scene([node("n")], [claim, passer_by], [], projects))
    assert granted(gone) == ["q"]


def test_a_claim_on_a_lost_node_is_forgotten() -> None:
    claim = replace(job("q", "bob", gpus=8), nominated_nodes=("lost",))
    assert granted(decide(scene([node("n")], [claim]))) == ["q"]


def test_a_victim_never_preempts_whom_it_made_way_for_not_even_round_about() -> None:
    running = [
        replace(run("b", "ann", ("n", 8)), made_way_for=("c",)),
        run("x", "ann", ("m", 8), evictions=3),
    ]
    projects = [quota("bob", 8)]
    claim = job("a", "bob", gpus=8)
    free = scene([node("n"), node("m")], [claim], running, projects)
    assert preempted(decide(free)) == ["b"]
    below = replace(free, queued=(replace(claim, made_way_for=("b",)),))
    assert decide(below).preemptions == ()
    running[0] = run("c", "ann", ("n", 8))
    other = replace(job("b", "ann", gpus=8), made_way_for=("c",))
    far_below = scene([node("n"), node("m")], [replace(claim, made_way_for=("b",)), other], running, projects)
    assert decide(far_below).preemptions == ()
