"""The scheduler against a trace: `python bench/scheduler.py [--trace FILE] --gpus N --days D [--json]`.

An event-driven simulator of one pool of 8-GPU nodes. Every policy sees the same jobs, packs nodes in the
same way (fullest first) and decides at the same cadence. Nobody knows how long a job will run.

- `steelyard`: the platform's own `decide`. Half of the pool is guaranteed, each tenant's nominal quota an
  equal part of that; the other half is lent to whom the rules choose (`--guaranteed`).
- `fifo`: strict first come, first served; what is behind the head waits for it.
- `priority`: highest priority first, then first come; who doesn't fit is passed.
- `lowest_usage`: the tenant that holds the fewest GPUs first; who doesn't fit is passed.

Preemption costs: a victim holds its GPUs for `STOP_SECONDS` while it saves, and its next start makes no
progress for `RESTART_SECONDS`. Both count as lost.

Metrics (seconds, unless named): JCT is from submission to end. Slowdown is JCT / max(duration, 60), a
tenant's is the mean over its jobs. rho, finish-time fairness, is a tenant's mean JCT divided by what it
would be if the tenant had its equal part of the pool to itself, first come first served, jobs wider
than that part stretched to it: at most 1 is fair. Jain's index is over min(1, 1/rho) of the tenants.
Allocation and goodput are parts of all GPU-seconds from the first to the last submission.
"""

import argparse
import heapq
import json
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from steelyard.compute.scheduler import (
    Allocation,
    JobQueue,
    Node,
    NodeShare,
    Policy,
    Project,
    QueuedJob,
    Quota,
    Snapshot,
    decide,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.traces import DAY_SECONDS, TraceJob, alone_seconds, by_tenant, read_trace, synthesize

GPUS_PER_NODE = 8
ROUND_SECONDS = 60.0
IDLE_ROUND_SECONDS = 600.0
STOP_SECONDS = 30.0
RESTART_SECONDS = 90.0
SHORTEST_SECONDS = 60.0
FLAVOR = "gpu"
GUARANTEED = 0.5
"""The part of the pool that is nominal quota, unless `--guaranteed` says otherwise."""

Placed = tuple[str, tuple[int, ...]]
"""A job's id and the indices of its nodes."""


@dataclass(slots=True)
class Run:
    """A job's life in the simulation."""

    job: TraceJob
    nodes: int
    gpus_per_node: int
    remaining_seconds: float
    started_seconds: float | None = None
    overhead_seconds: float = 0.0
    """Of the present start: time without progress."""
    ran_seconds: float = 0.0
    """Before the present start."""
    version: int = 0
    evictions: int = 0
    lost_gpu_seconds: float = 0.0
    first_start_seconds: float | None = None
    ended_seconds: float = 0.0


class Scheduling(Protocol):
    """A policy that keeps its own picture of pool and queue."""

    def submit(self, run: Run) -> None:
        """A job came, or came back."""
        ...

    def leave(self, run: Run) -> None:
        """A job ended or was evicted and holds nothing any more."""
        ...

    def round(self, now: float) -> tuple[list[Placed], list[str]]:
        """Return who starts where, and who is asked to leave."""
        ...


class Ours:
    """`decide` with the snapshot that the platform would give it."""

    def __init__(self, gpus: int, tenants: list[str], policy: Policy, guaranteed: float = GUARANTEED) -> None:
        self._nodes = [_node(i, size) for i, size in enumerate(_sizes(gpus))]
        self._index = {node.name: i for i, node in enumerate(self._nodes)}
        self._queue = JobQueue({})
        self._queued: dict[str, QueuedJob] = {}
        self._running: dict[str, Allocation] = {}
        self._runs: dict[str, Run] = {}
        self._gpu_ids: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = {}
        self._nominated: set[str] = set()
        self._made_way_for: dict[str, tuple[str, ...]] = {}
        self._policy = policy
        self._used = dict.fromkeys(tenants, 0.0)
        self._held = dict.fromkeys(tenants, 0)
        self._clock = 0.0
        self._quota = (Quota(FLAVOR, int(guaranteed * gpus / len(tenants))),)
        self._arrived: list[QueuedJob] = []

    def submit(self, run: Run) -> None:
        job = run.job
        queued = replace(_queued(run), made_way_for=self._made_way_for.get(job.id, ()))
        self._queued[job.id] = queued
        self._runs[job.id] = run
        self._arrived.append(queued)

    def leave(self, run: Run) -> None:
        del self._running[run.job.id]
        self._held[run.job.tenant] -= run.job.gpus
        for i, ids in self._gpu_ids.pop(run.job.id):
            node = self._nodes[i]
            free = (*node.free_gpu_ids, *ids)
            self._nodes[i] = replace(node, free_gpu_ids=free, free_cpus=node.free_cpus + len(ids))

    def round(self, now: float) -> tuple[list[Placed], list[str]]:
        self._decay(now)
        self._queue = self._queue.plus(self._arrived)
        self._arrived = []
        decisions = decide(
            Snapshot(
                now,
                tuple(self._nodes),
                self._queue,
                tuple(self._running.values()),
                tuple(Project(t, 1.0, self._quota, used) for t, used in self._used.items()),
                policy=self._policy,
            )
        )
        started: list[Placed] = []
        gone: list[QueuedJob] = []
        for grant in decisions.grants:
            gone.append(self._queued.pop(grant.job_id))
            held = tuple((self._index[p.node], p.gpu_ids) for p in grant.placements)
            self._start(self._runs[grant.job_id], held, now)
            started.append((grant.job_id, tuple(i for i, _ in held)))
        self._queue = self._queue.minus(gone)
        self._nominate(dict(decisions.nominations))
        for preemption in decisions.preemptions:
            victim = self._running[preemption.job_id]
            self._running[preemption.job_id] = replace(victim, stopping=True)
            before = self._made_way_for.get(preemption.job_id, ())
            self._made_way_for[preemption.job_id] = (*before, preemption.for_job)
        return started, [preemption.job_id for preemption in decisions.preemptions]

    def _start(self, run: Run, held: tuple[tuple[int, tuple[str, ...]], ...], now: float) -> None:
        job = run.job
        self._gpu_ids[job.id] = held
        self._held[job.tenant] += job.gpus
        for i, ids in held:
            node = self._nodes[i]
            free = tuple(g for g in node.free_gpu_ids if g not in ids)
            self._nodes[i] = replace(node, free_gpu_ids=free, free_cpus=node.free_cpus - len(ids))
        shares = tuple(NodeShare(self._nodes[i].name, len(ids), 0, len(ids)) for i, ids in held)
        self._running[job.id] = Allocation(
            job.id,
            job.tenant,
            shares,
            now,
            priority=job.priority,
            evictions=run.evictions,
            ran_seconds=run.ran_seconds,
            made_way_for=self._made_way_for.get(job.id, ()),
        )

    def _nominate(self, nominations: dict[str, tuple[str, ...]]) -> None:
        for job_id in sorted(self._nominated | nominations.keys()):
            queued = self._queued.get(job_id)
            nodes = nominations.get(job_id, ())
            if queued is not None and queued.nominated_nodes != nodes:
                changed = replace(queued, nominated_nodes=nodes)
                self._queue = self._queue.minus([queued]).plus([changed])
                self._queued[job_id] = changed
        self._nominated = set(nominations)

    def _decay(self, now: float) -> None:
        passed = now - self._clock
        kept = 0.5 ** (passed / self._policy.usage_half_life_seconds)
        for tenant, held in self._held.items():
            self._used[tenant] = self._used[tenant] * kept + held * passed
        self._clock = now


Key = Callable[[TraceJob, dict[str, int]], tuple[float, ...]]


class Greedy:
    """Starts the job with the lowest key, again and again; never preempts."""

    def __init__(self, gpus: int, key: Key, *, strict: bool) -> None:
        self._free = _sizes(gpus)
        self._key = key
        self._strict = strict
        self._lanes: dict[tuple[str, int, int, int], deque[Run]] = {}
        self._held: dict[str, int] = {}
        self._placed: dict[str, tuple[int, ...]] = {}

    def submit(self, run: Run) -> None:
        lane = (run.job.tenant, run.job.priority, run.nodes, run.gpus_per_node)
        self._lanes.setdefault(lane, deque()).append(run)

    def leave(self, run: Run) -> None:
        for i in self._placed.pop(run.job.id):
            self._free[i] += run.gpus_per_node
        self._held[run.job.tenant] -= run.job.gpus

    def round(self, now: float) -> tuple[list[Placed], list[str]]:
        started: list[Placed] = []
        too_big: set[tuple[int, int]] = set()
        while True:
            open_lanes = [lane for lane in self._lanes if lane[2:] not in too_big]
            if not open_lanes:
                return started, []
            lane = min(open_lanes, key=lambda lane: self._key(self._lanes[lane][0].job, self._held))
            run = self._lanes[lane][0]
            indices = self._find(run)
            if indices is None:
                if self._strict:
                    return started, []
                too_big.add(lane[2:])
                continue
            self._lanes[lane].popleft()
            if not self._lanes[lane]:
                del self._lanes[lane]
            for i in indices:
                self._free[i] -= run.gpus_per_node
            self._held[run.job.tenant] = self._held.get(run.job.tenant, 0) + run.job.gpus
            self._placed[run.job.id] = indices
            started.append((run.job.id, indices))

    def _find(self, run: Run) -> tuple[int, ...] | None:
        fitting = [i for i, free in enumerate(self._free) if free >= run.gpus_per_node]
        if len(fitting) < run.nodes:
            return None
        fitting.sort(key=lambda i: (self._free[i], i))
        return tuple(fitting[: run.nodes])


class Simulation:
    """Plays a trace against one policy until the last job has ended."""

    def __init__(self, jobs: list[TraceJob], gpus: int, scheduling: Scheduling) -> None:
        self.runs = {job.id: _run(job, gpus) for job in jobs}
        self.round_seconds: list[float] = []
        self.held_gpu_seconds = 0.0
        self._arrivals = deque(jobs)
        self._window_end = jobs[-1].submitted_seconds
        self._scheduling = scheduling
        self._events: list[tuple[float, str, str, int]] = []
        self._queued = 0

    def play(self) -> None:
        """Run to the end.

        Raises:
            RuntimeError: jobs are queued, nothing runs, and the policy starts nothing.
        """
        due: float | None = None
        while self._arrivals or self._events or self._queued:
            now = self._next_moment(due)
            changed = self._advance(now)
            if due is not None and now >= due:
                self._decide(now)
                due = now + IDLE_ROUND_SECONDS if self._queued else None
                if self._queued and not self._events and not self._arrivals:
                    raise RuntimeError(f"{self._queued} jobs are queued and nothing runs")
            if changed:
                coming = math.floor(now / ROUND_SECONDS + 1) * ROUND_SECONDS
                due = coming if due is None else min(due, coming)

    def _next_moment(self, due: float | None) -> float:
        moments = [math.inf if due is None else due]
        if self._arrivals:
            moments.append(self._arrivals[0].submitted_seconds)
        if self._events:
            moments.append(self._events[0][0])
        return min(moments)

    def _advance(self, now: float) -> bool:
        changed = False
        while self._arrivals and self._arrivals[0].submitted_seconds <= now:
            self._scheduling.submit(self.runs[self._arrivals.popleft().id])
            self._queued += 1
            changed = True
        while self._events and self._events[0][0] <= now:
            _, kind, job_id, version = heapq.heappop(self._events)
            run = self.runs[job_id]
            if version == run.version:
                self._end(run, kind, now)
                changed = True
        return changed

    def _end(self, run: Run, kind: str, now: float) -> None:
        run.version += 1
        self._count_held(run, now)
        run.ran_seconds += now - (run.started_seconds or 0.0)
        self._scheduling.leave(run)
        run.started_seconds = None
        if kind == "finish":
            run.ended_seconds = now
            return
        run.evictions += 1
        self._scheduling.submit(run)
        self._queued += 1

    def _decide(self, now: float) -> None:
        began = time.perf_counter()
        started, stopped = self._scheduling.round(now)
        self.round_seconds.append(time.perf_counter() - began)
        for job_id, _ in started:
            run = self.runs[job_id]
            run.started_seconds = now
            run.overhead_seconds = RESTART_SECONDS if run.evictions else 0.0
            if run.first_start_seconds is None:
                run.first_start_seconds = now
            ends = now + run.overhead_seconds + run.remaining_seconds
            heapq.heappush(self._events, (ends, "finish", job_id, run.version))
            self._queued -= 1
        for job_id in stopped:
            self._stop(self.runs[job_id], now)

    def _stop(self, run: Run, now: float) -> None:
        """Start saving: no progress from now on, and the GPUs are free when it is done."""
        run.version += 1
        ran = now - (run.started_seconds or 0.0)
        run.remaining_seconds -= max(0.0, ran - run.overhead_seconds)
        lost = min(ran, run.overhead_seconds) + STOP_SECONDS
        run.lost_gpu_seconds += lost * run.job.gpus
        run.overhead_seconds = 0.0
        heapq.heappush(self._events, (now + STOP_SECONDS, "evict", run.job.id, run.version))

    def _count_held(self, run: Run, now: float) -> None:
        began = run.started_seconds or 0.0
        self.held_gpu_seconds += max(0.0, min(now, self._window_end) - began) * run.job.gpus
        run.lost_gpu_seconds += run.overhead_seconds * run.job.gpus


@dataclass(frozen=True)
class Figures:
    """One policy's result; units as in the module's docstring."""

    policy: str
    jobs: int
    gpus: int
    days: float
    jct_mean: float
    jct_p99: float
    wait_mean: float
    wait_p99: float
    allocation: float
    goodput: float
    lost_gpu_hours: float
    worst_tenant_slowdown: float
    rho_max: float
    rho_p95: float
    job_rho_p95: float
    jain: float
    evictions_per_job: float
    evictions_max: int
    rounds: int
    round_ms_p50: float
    round_ms_p99: float
    simulated_in: float


def measure(
    name: str, jobs: list[TraceJob], gpus: int, days: float, scheduling: Scheduling, alone: dict[str, float]
) -> Figures:
    """Play the trace and work out the figures. `alone`: each job's JCT on its tenant's own part."""
    began = time.perf_counter()
    simulation = Simulation(jobs, gpus, scheduling)
    simulation.play()
    took = time.perf_counter() - began
    runs = list(simulation.runs.values())
    jct = {run.job.id: run.ended_seconds - run.job.submitted_seconds for run in runs}
    waits = [jct[run.job.id] - run.job.duration_seconds for run in runs]
    rho = {
        tenant: statistics.fmean(jct[i] for i in ids) / statistics.fmean(alone[i] for i in ids)
        for tenant, ids in by_tenant(jobs).items()
    }
    lost = sum(run.lost_gpu_seconds for run in runs)
    capacity = gpus * (jobs[-1].submitted_seconds - jobs[0].submitted_seconds)
    useful = sum(run.job.duration_seconds * run.job.gpus for run in runs)
    allocation = simulation.held_gpu_seconds / capacity
    good = [min(1.0, 1 / value) for value in rho.values()]
    slowdown = {job.id: jct[job.id] / max(job.duration_seconds, SHORTEST_SECONDS) for job in jobs}
    return Figures(
        policy=name,
        jobs=len(jobs),
        gpus=gpus,
        days=days,
        jct_mean=statistics.fmean(jct.values()),
        jct_p99=_quantile(jct.values(), 0.99),
        wait_mean=statistics.fmean(waits),
        wait_p99=_quantile(waits, 0.99),
        allocation=allocation,
        goodput=allocation * useful / (useful + lost),
        lost_gpu_hours=lost / 3600,
        worst_tenant_slowdown=max(
            statistics.fmean(slowdown[i] for i in ids) for ids in by_tenant(jobs).values()
        ),
        rho_max=max(rho.values()),
        rho_p95=_quantile(rho.values(), 0.95),
        job_rho_p95=_quantile([jct[i] / alone[i] for i in jct], 0.95),
        jain=sum(good) ** 2 / (len(good) * sum(x * x for x in good)),
        evictions_per_job=sum(run.evictions for run in runs) / len(runs),
        evictions_max=max(run.evictions for run in runs),
        rounds=len(simulation.round_seconds),
        round_ms_p50=1e3 * _quantile(simulation.round_seconds, 0.5),
        round_ms_p99=1e3 * _quantile(simulation.round_seconds, 0.99),
        simulated_in=took,
    )


def policies(
    jobs: list[TraceJob], gpus: int, guaranteed: float = GUARANTEED
) -> dict[str, Callable[[], Scheduling]]:
    """Return how to make each policy, ours first."""
    tenants = sorted(by_tenant(jobs))
    return {
        "steelyard": lambda: Ours(gpus, tenants, Policy(), guaranteed),
        "fifo": lambda: Greedy(gpus, lambda job, held: (job.submitted_seconds,), strict=True),
        "priority": lambda: Greedy(
            gpus, lambda job, held: (-job.priority, job.submitted_seconds), strict=False
        ),
        "lowest_usage": lambda: Greedy(
            gpus,
            lambda job, held: (held.get(job.tenant, 0), -job.priority, job.submitted_seconds),
            strict=False,
        ),
    }


def queue_round(count: int, seed: int) -> dict[str, float | int]:
    """Measure one round over `count` queued jobs of 50 projects on 125 nodes with 1,000 GPUs, 950 in use."""
    snapshot = _crowd(count, seed)
    rounds: list[float] = []
    explained: list[float] = []
    decisions = decide(snapshot)
    for _ in range(9):
        began = time.process_time()
        decisions = decide(snapshot)
        rounds.append(time.process_time() - began)
        _ = decisions.first_waiting(20)
        explained.append(time.process_time() - began)
    return {
        "queued": count,
        "grants": len(decisions.grants),
        "preemptions": len(decisions.preemptions),
        "waiting": len(decisions.waiting),
        "steps": decisions.steps,
        "round_ms": round(1e3 * statistics.median(rounds), 2),
        "round_and_head_ms": round(1e3 * statistics.median(explained), 2),
    }


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    if arguments.queue:
        print(json.dumps(queue_round(arguments.queue, arguments.seed)))
        if arguments.database:
            # Only this needs the server's libraries.
            from bench.rounds import measure_rounds  # noqa: PLC0415

            for figures in measure_rounds(arguments.queue):
                print(json.dumps(figures), flush=True)
        return
    if arguments.trace:
        jobs = read_trace(arguments.trace, arguments.days, arguments.seed)
    else:
        jobs = synthesize(arguments.days, arguments.seed, arguments.jobs or round(arguments.days * 1786))
    jobs = [_within(job, arguments.gpus) for job in jobs]
    alone = alone_seconds(jobs, arguments.gpus)
    results: list[Figures] = []
    for name, make in policies(jobs, arguments.gpus, arguments.guaranteed).items():
        figures = measure(name, jobs, arguments.gpus, arguments.days, make(), alone)
        results.append(figures)
        if arguments.json:
            print(json.dumps({key: _short(value) for key, value in asdict(figures).items()}), flush=True)
    if not arguments.json:
        print(_table(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trace", type=Path, help="CSV or CSV.gz: timestamp,duration,num_gpus,cluster")
    parser.add_argument("--gpus", type=int, default=400, help="GPUs of the pool, 8 to a node (400)")
    parser.add_argument("--days", type=float, default=14.0, help="length of the trace's window (14)")
    parser.add_argument("--jobs", type=int, help="jobs of the synthetic trace (1,786 a day)")
    parser.add_argument("--seed", type=int, default=7, help="of the synthetic trace and of priorities (7)")
    parser.add_argument(
        "--guaranteed", type=float, default=GUARANTEED, help="part of the pool that is nominal quota (0.5)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per policy, one per line")
    parser.add_argument("--queue", type=int, help="measure one round over so many queued jobs instead")
    parser.add_argument(
        "--database", action="store_true", help="with --queue: whole rounds over a real PostgreSQL too"
    )
    return parser


def _table(results: list[Figures]) -> str:
    """Return all figures, a row each and a column for each policy."""
    rows = [asdict(figures) for figures in results]
    lines: list[str] = []
    for key in rows[0]:
        cells = [row[key] if isinstance(row[key], str) else f"{_short(row[key]):,}" for row in rows]
        lines.append(f"{key:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _short(value: float | int | str) -> float | int | str:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _run(job: TraceJob, gpus: int) -> Run:
    per_node = min(GPUS_PER_NODE, gpus)
    nodes = math.ceil(job.gpus / per_node)
    return Run(job, nodes, math.ceil(job.gpus / nodes), job.duration_seconds)


def _queued(run: Run) -> QueuedJob:
    job = run.job
    return QueuedJob(
        job.id,
        job.tenant,
        job.submitted_seconds,
        cpus=run.gpus_per_node,
        gpus=run.gpus_per_node,
        nodes=run.nodes,
        priority=job.priority,
        evictions=run.evictions,
        ran_seconds=run.ran_seconds,
    )


def _within(job: TraceJob, gpus: int) -> TraceJob:
    """Stretch a gang that is wider than the pool, so that it does the same work on all of it."""
    widest = gpus if gpus < GPUS_PER_NODE else gpus // GPUS_PER_NODE * GPUS_PER_NODE
    if job.gpus <= widest:
        return job
    return replace(job, gpus=widest, duration_seconds=job.duration_seconds * job.gpus / widest)


def _sizes(gpus: int) -> list[int]:
    whole, rest = divmod(gpus, GPUS_PER_NODE)
    return [GPUS_PER_NODE] * whole + ([rest] if rest else [])


def _node(i: int, size: int) -> Node:
    ids = tuple(f"{i}-{k}" for k in range(size))
    return Node(f"n{i:04}", FLAVOR, size, 0, size, 0, ids, ids)


def _quantile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


def _crowd(count: int, seed: int) -> Snapshot:
    jobs = synthesize(7.0, seed, count + 950)
    tenants = sorted(by_tenant(jobs))
    now = jobs[-1].submitted_seconds
    running: list[Allocation] = []
    nodes = [_node(i, GPUS_PER_NODE) for i in range(125)]
    for number, job in enumerate(jobs[:950]):
        i = number * 125 // 950
        node = nodes[i]
        if not node.free_gpu_ids:
            continue
        share = NodeShare(node.name, 1, 0, 1)
        running.append(Allocation(job.id, job.tenant, (share,), job.submitted_seconds, priority=job.priority))
        nodes[i] = replace(node, free_cpus=node.free_cpus - 1, free_gpu_ids=node.free_gpu_ids[1:])
    projects = tuple(Project(tenant, quotas=(Quota(FLAVOR, 1000 // len(tenants)),)) for tenant in tenants)
    queued = [replace(_queued(_run(job, 1000)), max_runtime_seconds=DAY_SECONDS) for job in jobs[950:]]
    return Snapshot(now, tuple(nodes), tuple(queued), tuple(running), projects)


if __name__ == "__main__":
    main()
