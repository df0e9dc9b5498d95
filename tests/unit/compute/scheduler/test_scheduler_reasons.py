"""Why jobs wait: codes, positions, numbers, sentences."""

from dataclasses import replace

from tests.unit.compute.scheduler.pools import job, node, quota, run, scene

from steelyard.compute.scheduler import Decisions, SpotPolicy, Waiting, decide


def reason_of(decisions: Decisions, job_id: str) -> Waiting:
    return next(reason for reason in decisions.waiting if reason.job_id == job_id)


def test_no_node_yet() -> None:
    (reason,) = decide(scene([], [job("q")])).waiting
    assert reason.code == "waiting_for_capacity"
    assert "no node has reported yet" in reason.sentence


def test_too_large_for_every_node_says_the_numbers() -> None:
    decisions = decide(scene([node("n", 4)], [job("big", gpus=9, at=-5), job("q", gpus=4), job("r")]))
    reason = reason_of(decisions, "big")
    assert reason.code == "unschedulable"
    assert (reason.numbers["gpus"], reason.numbers["largest_gpus"]) == (9, 4)
    assert "ask for less" in reason.sentence
    assert reason.position == 2, "nobody waits behind a job that can't run"


def test_a_gang_of_more_nodes_than_there_are_is_unschedulable() -> None:
    (reason,) = decide(scene([node("n0"), node("n1", 2)], [job("q", gpus=4, nodes=2)])).waiting
    assert (reason.code, reason.numbers["large_nodes"]) == ("unschedulable", 1)


def test_lack_of_room_names_the_emptiest_node_and_the_next_end() -> None:
    ends = replace(run("r", "p", ("n0", 6), ago=600.0, priority=900), max_runtime_seconds=4200.0)
    snapshot = scene(
        [node("n0"), node("n1")], [job("q", gpus=4)], [ends, run("s", "p", ("n1", 7), priority=900)]
    )
    (reason,) = decide(snapshot).waiting
    assert reason.code == "waiting_for_capacity"
    assert reason.numbers["best_node"] == "n0"
    assert reason.numbers["free_gpus"] == 2
    assert reason.numbers["kept_for"] == "q"
    assert "in 60 minutes" in reason.sentence
    assert "position 1" in reason.sentence


def test_more_than_the_quota_can_ever_be_says_so() -> None:
    (reason,) = decide(scene([node("n")], [job("q", "ann", gpus=4)], projects=[quota("ann", 1, 1)])).waiting
    assert reason.code == "quota_exceeded"
    assert "ask for fewer, or for a larger quota" in reason.sentence


def test_lending_limits_are_a_reason_only_where_something_is_idle() -> None:
    owner = quota("ann", 4, lend=1)
    held = run("r", "bob", ("n", 5), ago=60.0)
    (reason,) = decide(scene([node("n")], [job("q", "bob", gpus=2)], [held], [owner])).waiting
    assert reason.code == "quota_exceeded"
    assert "what is idle belongs to projects that don't lend it" in reason.sentence
    full = [held, run("s", "ann", ("n", 3))]
    (reason,) = decide(scene([node("n")], [job("q", "bob", gpus=2)], full, [owner])).waiting
    assert reason.code == "waiting_for_capacity"
    assert "running jobs end" in reason.sentence


def test_a_flavor_that_nobody_has_and_spot_that_is_away() -> None:
    wrong = replace(job("q"), flavors=("tpu",))
    (reason,) = decide(scene([node("n")], [wrong])).waiting
    assert reason.code == "unschedulable"
    assert "the pool has a100" in reason.sentence
    (reason,) = decide(scene([node("n")], [replace(job("q"), spot=SpotPolicy.ONLY)])).waiting
    assert reason.code == "waiting_for_capacity"
    assert "spot" in reason.sentence


def test_positions_follow_priority_within_a_project_and_turns_between_projects() -> None:
    full = [run("r", "cy", ("n", 8))]
    queued = [job(f"a{i}", "ann", gpus=2, at=i) for i in range(3)]
    queued += [job("b0", "bob", gpus=2, at=9), job("a9", "ann", gpus=2, at=99, priority=600)]
    reasons = decide(scene([node("n")], queued, full)).waiting
    assert [reason.job_id for reason in reasons] == ["a9", "b0", "a0", "a1", "a2"]
