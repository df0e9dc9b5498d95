"""Jobs that all differ: what is set aside rack by rack is decided as if each lane had been looked at."""

import heapq
import random
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.compute.scheduler.pools import NOW, job, node, quota, run, scene

from steelyard.compute.scheduler import (
    Allocation,
    Decisions,
    Policy,
    PreemptionRule,
    QueuedJob,
    Snapshot,
    decide,
)
from steelyard.compute.scheduler.admission import Round
from steelyard.compute.scheduler.lines import ProjectLine
from steelyard.compute.scheduler.queue import lane_of
from steelyard.compute.scheduler.shares import Standings

PROJECTS = ("ann", "bob", "cy")


@pytest.mark.parametrize("seed", range(120))
def test_nothing_else_is_decided_than_lane_by_lane(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = _crowded(random.Random(seed))
    quick = decide(snapshot)
    # Worked out before the patch, as it is only when it is read.
    told = quick.waiting
    monkeypatch.setattr(Round, "_nothing_can_start_of", _never)
    monkeypatch.setattr(ProjectLine, "put_off_rack", _put_off_lane)
    slow = decide(snapshot)
    assert _what(quick) == _what(slow)
    assert told == slow.waiting


def test_jobs_that_all_differ_cost_a_look_each_and_no_more() -> None:
    nodes = [node(f"n{i:02}") for i in range(20)]
    running = [run(f"r{i:02}", PROJECTS[i % 3], (f"n{i:02}", 8), ago=10.0) for i in range(20)]
    queued = [
        replace(
            job(f"j{i:04}", PROJECTS[i % 3], gpus=(1, 2, 8)[i // 3 % 3], priority=i % 1000),
            max_runtime_seconds=3600.0 + i,
        )
        for i in range(3000)
    ]
    decisions = decide(scene(nodes, queued, running, [quota(name, 40) for name in PROJECTS]))
    assert decisions.grants == ()
    assert decisions.steps < 3000 + 500


class TestLine:
    def test_what_rests_wakes_behind_the_first_only(self) -> None:
        line = _line([job("a", gpus=1, priority=900), job("b", gpus=2, priority=800)])
        for name, gpus, priority in (("c", 1, 700), ("d", 2, 600), ("e", 1, 500)):
            _add(line, job(name, gpus=gpus, priority=priority))
        assert _taken(line) == "a"
        line.skip()
        assert _first(line) == "c"
        line.rest()
        assert _first(line) == "d"
        line.wake()
        assert _first(line) == "d", "c's turn has passed"
        line.skip()
        assert _first(line) == "e", "e's had not"
        line.rest()
        assert line.top() is None
        line.wake()
        assert line.top() is None, "the line has come to its end"

    def test_what_is_put_off_comes_back(self) -> None:
        line = _line([job("a", gpus=1, priority=900), job("b", gpus=2, priority=800)])
        _add(line, job("c", gpus=1, priority=700))
        _first(line)
        line.put_off_rack()
        assert _first(line) == "b"
        line.put_off_rack()
        assert line.top() is None
        line.resume()
        assert [_taken(line) for _ in range(3)] == ["a", "b", "c"]

    def test_who_stands_behind_one_that_started_is_looked_at_anew(self) -> None:
        line = _line([job("a", gpus=1, priority=900), job("b", gpus=2, priority=800)])
        _add(line, job("c", gpus=1, priority=700))
        _first(line)
        line.put_off_rack()
        first = line.rank() if _first(line) == "b" else None
        assert first is not None
        line.take()
        line.recall(first)
        assert _first(line) == "c"
        line.put_off_rack()
        line.resume()
        assert [_taken(line) for _ in range(2)] == ["a", "c"]

    def test_walking_a_line_changes_nothing_and_sees_what_was_taken(self) -> None:
        line = _line([job("a", gpus=1, priority=900), job("b", gpus=2, priority=800)])
        assert _taken(line) == "a"
        shapes = line.shapes()
        assert [each.id for _, each, _ in line.walk(shapes)] == ["a", "b"]
        assert _first(line) == "b"


def _crowded(rng: random.Random) -> Snapshot:
    """Return a small full pool, and many jobs of few shapes with priorities and limits of their own."""
    nodes = [node(f"n{i}", rng.choice((4, 8)), flavor=rng.choice(("a100", "h100"))) for i in range(5)]
    free = {each.name: len(each.gpu_ids) for each in nodes}
    running: list[Allocation] = []
    for number in range(rng.choice((8, 30))):
        name = rng.choice(nodes).name
        gpus = rng.randint(0, min(3, free[name]))
        free[name] -= gpus
        allocation = run(
            f"r{number}",
            rng.choice(PROJECTS),
            (name, gpus),
            ago=rng.choice((10.0, 5000.0, 90_000.0)),
            priority=rng.choice((100, 500, 900)),
        )
        running.append(replace(allocation, max_runtime_seconds=rng.choice((7000.0, 95_000.0, 2e5))))
    sizes = [(rng.choice((1, 2, 4, 8)), rng.choice((1, 1, 2))) for _ in range(3)]
    queued: list[QueuedJob] = []
    for number in range(50):
        gpus, wide = rng.choice(sizes)
        made = job(
            f"q{number}",
            rng.choice(PROJECTS),
            gpus=gpus,
            nodes=wide,
            at=-rng.choice((0.0, 100.0, 2e5, 8e5)),
            priority=rng.randrange(1000),
            ran=rng.choice((0.0, 0.0, 20_000.0)),
        )
        way_for = (f"r{rng.randrange(8)}",) if rng.random() < 0.1 else ()
        limit = rng.choice((None, 60.0, float(rng.randint(100, 9000))))
        queued.append(replace(made, max_runtime_seconds=limit, made_way_for=way_for))
    rules = frozenset(rule for rule in PreemptionRule if rng.random() < 0.6)
    policy = Policy(preemption=rules, patience_seconds=rng.choice((0.0, 7 * 86400.0)))
    projects = [
        quota(name, rng.choice((0, 4, 16)), rng.choice((None, 2)), rng.choice((None, 2))) for name in PROJECTS
    ]
    return scene(nodes, queued, running, projects, policy)


def _never(_round: Round, _line: ProjectLine) -> bool:
    return False


def _put_off_lane(line: ProjectLine) -> None:
    rack = line.top_rack()
    assert rack is not None
    rack.later.append(heapq.heappop(rack.heap))
    line._settle(rack)  # pyright: ignore[reportPrivateUsage]


def _what(decisions: Decisions) -> tuple[Any, ...]:
    return decisions.grants, decisions.preemptions, decisions.nominations


def _line(jobs: list[QueuedJob]) -> ProjectLine:
    snapshot = scene([node("n")])
    pool = Round(snapshot)._pool  # pyright: ignore[reportPrivateUsage]
    standing = Standings(pool, (), (), snapshot.policy).of("p")
    line = ProjectLine(standing, NOW, snapshot.policy)
    for each in jobs:
        _add(line, each)
    return line


def _add(line: ProjectLine, job: QueuedJob) -> None:
    line.add(lane_of(job), (job,))


def _first(line: ProjectLine) -> str:
    top = line.top()
    assert top is not None
    return top[0].id


def _taken(line: ProjectLine) -> str:
    name = _first(line)
    line.take()
    return name
