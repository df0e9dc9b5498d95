"""What a round looks at of a long queue: the heads of its lanes, and as many reasons as somebody reads."""

from dataclasses import replace

from tests.unit.compute.scheduler.pools import GB, NOW, node, quota, run, scene

from steelyard.compute.scheduler import JobQueue, QueuedJob, decide
from steelyard.compute.scheduler.queue import Arrivals, Lane, lane_of

PROJECTS = [f"p{i}" for i in range(20)]


def long_lanes(count: int) -> dict[Lane, Arrivals]:
    """`count` jobs in eighty lanes, as the database gives them."""
    lanes: dict[Lane, Arrivals] = {}
    for project in PROJECTS:
        for gpus in (1, 2, 4, 8):
            pattern = QueuedJob("", project, 0.0, cpus=1, memory_bytes=GB, gpus=gpus)
            arrived = [(NOW - 1e5 + i, f"{project}-{gpus}-{i:05}") for i in range(count // 80)]
            lanes[lane_of(pattern)] = Arrivals(pattern, arrived)
    return lanes


def test_of_ten_thousand_jobs_a_round_makes_a_few() -> None:
    nodes = [node(f"n{i:02}") for i in range(50)]
    running = [run(f"r{i:02}", PROJECTS[i % 20], (f"n{i:02}", 6)) for i in range(50)]
    lanes = long_lanes(10_000)
    decisions = decide(
        replace(
            scene(nodes, (), running, [quota(project, 20) for project in PROJECTS]), queued=JobQueue(lanes)
        )
    )
    head = decisions.first_waiting(20)
    dict(decisions.explanation.causes())
    assert len(head) == 20
    assert [reason.position for reason in head] == list(range(1, 21))
    assert sum(jobs.looked_at for jobs in lanes.values()) < 1_000
    assert decisions.steps < 8_000, "forty searches for victims among fifty nodes, and the heads of lanes"


def test_lazily_made_jobs_decide_like_those_that_were_there() -> None:
    nodes = [node(f"n{i:02}") for i in range(10)]
    queue = JobQueue(long_lanes(800))
    lazy = decide(replace(scene(nodes), queued=queue))
    whole = decide(scene(nodes, tuple(queue)))
    assert (lazy.grants, lazy.preemptions, lazy.nominations) == (
        whole.grants,
        whole.preemptions,
        whole.nominations,
    )
    assert lazy.waiting == whole.waiting
    assert lazy.first_waiting(7) == whole.waiting[:7]
    last = whole.waiting[-1]
    assert lazy.why(last.job_id) == last
    assert lazy.why("nobody") is None


def test_a_queue_of_lazy_lanes_can_grow_and_shrink() -> None:
    queue = JobQueue(long_lanes(160))
    first = next(iter(queue))
    smaller = queue.minus([first])
    assert len(smaller) == 159
    assert set(smaller.plus([first])) == set(queue)
