"""What would free a queued job, in sentences: its place, its project's quota, who borrows, and until when.

Of other projects only counts, sums and moments are told, no names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from steelyard.compute.scheduler import (
    Allocation,
    JobQueue,
    Policy,
    PreemptionRule,
    Quota,
    Snapshot,
    Waiting,
    decide,
)
from steelyard.compute.scheduler.pool import Pool
from steelyard.compute.scheduler.priorities import had_its_turn
from steelyard.compute.scheduler.queue import Lane
from steelyard.compute.scheduler.shares import Standing, Standings

_NODES_NAMED = 5
_OWN_NAMED = 5


@dataclass(frozen=True)
class Outlook:
    """Where a queued job stands. Without `reason` the next round starts it."""

    reason: Waiting | None
    sentences: tuple[str, ...]


def look_ahead(snapshot: Snapshot, job_id: str) -> Outlook | None:
    """Play the next round and say where a job stands; None where it isn't in the snapshot's queue.

    A pure function of some tens of milliseconds for thousands of jobs: call it off the event loop.
    """
    lane = _lane_of(snapshot, job_id)
    if lane is None:
        return None
    pool = Pool(snapshot.nodes, snapshot.flavors, snapshot.running, snapshot.now_seconds)
    standings = Standings(pool, snapshot.projects, snapshot.running, snapshot.policy)
    mine = standings.of(lane.project)
    reason = decide(snapshot).why(job_id)
    sentences = [_order(standings, mine, snapshot, lane)]
    offered = {group.key.flavor for group in pool.candidates(lane.shape)}
    for flavor in sorted(offered or {node.flavor for node in snapshot.nodes}):
        if lane.shape.gpus > 0:
            sentences += _quota(standings, mine, snapshot, pool, flavor)
        sentences += _own(mine, snapshot, pool, flavor)
        sentences += _nodes(snapshot, flavor, lane)
    return Outlook(reason, tuple(sentences))


def _lane_of(snapshot: Snapshot, job_id: str) -> Lane | None:
    for lane, jobs in _queue(snapshot).lanes.items():
        if any(job.id == job_id for job in jobs):
            return lane
    return None


def _queue(snapshot: Snapshot) -> JobQueue:
    queued = snapshot.queued
    return queued if isinstance(queued, JobQueue) else JobQueue.of(queued)


def _order(standings: Standings, mine: Standing, snapshot: Snapshot, lane: Lane) -> str:
    waiting = {other.project for other in _queue(snapshot).lanes}
    score = standings.score(mine)
    before = sum(standings.score(standings.of(name)) < score for name in waiting if name != mine.name)
    return (
        f"projects with the lowest score go first: {mine.name} has {min(score, 1e9):.3g} (share"
        f" {min(mine.share(), 1e9):.3g} of weight {mine.weight:g}), and {before} of {len(waiting) - 1} other"
        f" projects that wait have less; within the project the highest priority goes first, this one's is"
        f" {lane.priority}; {_turn(lane, snapshot.policy)}"
    )


def _turn(lane: Lane, policy: Policy) -> str:
    gpus = lane.shape.gpus * lane.shape.nodes
    unit = "GPU-hours" if gpus else "hours"
    used, turn = lane.ran_seconds * max(1, gpus) / 3600, policy.turn_gpu_seconds / 3600
    text = (
        f"of equal priority those go first that have used less than {turn:g} {unit} so far, and this one has"
        f" used {used:.2f}"
    )
    if had_its_turn(lane.ran_seconds, gpus, policy):
        return text
    if PreemptionRule.TURN in policy.preemption:
        text += ": it may take the place of one of no higher priority that has used more"
    if PreemptionRule.LENT_TURN in policy.preemption:
        text += (
            f"; of what is lent, its project is served as if its score were a {policy.turn_advance:g}th, and"
            f" after {policy.turn_wait_seconds:g} s it may take such a place from a project beyond its quota"
            f" that has more than a {policy.turn_advance:g}th of the share"
        )
    return text


def _quota(
    standings: Standings, mine: Standing, snapshot: Snapshot, pool: Pool, flavor: str
) -> Iterator[str]:
    quota, held = mine.quota(flavor), mine.holds(flavor)
    total = standings.totals.flavors.get(flavor, (0, 0, 0))[0]
    in_use = sum(each.holds(flavor) for each in standings.all())
    yield (
        f"{mine.name} holds {held} of {total} {flavor} GPUs: {quota.nominal} are guaranteed to it and"
        f" {_borrowable(quota)} more may be borrowed while idle; {max(0, total - in_use)} are idle now"
    )
    over = [
        each
        for each in standings.all()
        if each is not mine and each.holds(flavor) > each.quota(flavor).nominal
    ]
    if over:
        gpus = sum(each.holds(flavor) - each.quota(flavor).nominal for each in over)
        names = {each.name for each in over}
        theirs = [run for run in snapshot.running if run.project in names and _is_on(pool, run, flavor)]
        lent = max(0, min(quota.nominal - held, gpus))
        text = f"{len(over)} other projects borrow {gpus} {flavor} GPUs"
        text += f", {lent} of them of what is guaranteed to {mine.name}" if lent else ""
        yield text + _until(theirs, snapshot)


def _own(mine: Standing, snapshot: Snapshot, pool: Pool, flavor: str) -> Iterator[str]:
    own = [run for run in snapshot.running if run.project == mine.name and _is_on(pool, run, flavor)]
    for run in sorted(own, key=_end)[:_OWN_NAMED]:
        gpus = sum(share.gpus for share in run.placements)
        cpus = sum(share.cpus for share in run.placements)
        yield f"{run.job_id} of {mine.name} holds {gpus} GPUs and {cpus} CPUs{_until([run], snapshot)}"


def _borrowable(quota: Quota) -> str:
    return "any number" if quota.borrowing_limit is None else str(quota.borrowing_limit)


def _until(runs: list[Allocation], snapshot: Snapshot) -> str:
    """Say until when some jobs hold what they hold, and when they may be asked to leave."""
    if not runs:
        return ""
    stopping = sum(run.stopping for run in runs)
    if stopping:
        return f"; {stopping} of their jobs are saving and about to leave"
    text = ""
    ends = [end for run in runs if (end := _end(run)) != float("inf")]
    if ends:
        minutes = max(0.0, min(ends) - snapshot.now_seconds) / 60
        text = f", the first until its time limit in {minutes:.0f} minutes at the latest"
    youngest = min(snapshot.now_seconds - run.started_seconds for run in runs)
    left = snapshot.policy.min_runtime_seconds - youngest
    return text + (f"; none is preempted in its first {youngest + left:.0f} s" if left > 0 else "")


def _end(run: Allocation) -> float:
    limit = run.max_runtime_seconds
    return float("inf") if limit is None else run.started_seconds + limit


def _is_on(pool: Pool, run: Allocation, flavor: str) -> bool:
    return any(pool.flavor_of(share.node) == flavor for share in run.placements)


def _nodes(snapshot: Snapshot, flavor: str, lane: Lane) -> Iterator[str]:
    """Say what is free where, on the emptiest nodes first."""
    nodes = [node for node in snapshot.nodes if node.flavor == flavor]
    nodes.sort(key=lambda node: (not node.up, -len(node.free_gpu_ids), -node.free_cpus, node.name))
    for node in nodes[:_NODES_NAMED]:
        if not node.up:
            yield f"node {node.name} is down or being taken away"
            continue
        yield (
            f"node {node.name} has free {len(node.free_gpu_ids)} of {len(node.gpu_ids)} GPUs,"
            f" {node.free_cpus} of {node.cpus} CPUs and {node.free_memory_bytes / 1e9:.1f} GB; the job asks"
            f" for {lane.shape.gpus}, {lane.shape.cpus} and {lane.shape.memory_bytes / 1e9:.1f} GB"
        )
    if len(nodes) > _NODES_NAMED:
        yield f"and {len(nodes) - _NODES_NAMED} more nodes of flavor {flavor} have no more room"
