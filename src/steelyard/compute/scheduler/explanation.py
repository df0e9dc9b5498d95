"""Why jobs wait: codes, positions, numbers, and sentences with what would free each job."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from steelyard.compute.scheduler.decisions import Cause, Waiting, WaitingCode
from steelyard.compute.scheduler.lines import ProjectLine
from steelyard.compute.scheduler.pool import Pool, is_large_enough
from steelyard.compute.scheduler.priorities import Rank, lent_score, rank
from steelyard.compute.scheduler.queue import JobQueue, Lane, QueuedJob, Shape, SpotPolicy
from steelyard.compute.scheduler.shares import Standing, Standings
from steelyard.compute.scheduler.snapshot import Allocation, Policy

_BYTES_PER_GB = 10**9

Numbers = dict[str, int | float | str]
_Entry = tuple[Rank, QueuedJob, Lane]


class BlockKind(StrEnum):
    """What a shape of a project lacks."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    NOT_OFFERED = "not_offered"
    """No group of nodes that are up, large enough and allowed to it."""


class Explanation:
    """Explains one round, after it has ended."""

    def __init__(
        self,
        pool: Pool,
        standings: Standings,
        queue: JobQueue,
        lines: Mapping[str, ProjectLine],
        running: Iterable[Allocation],
        policy: Policy,
        blocks: Mapping[tuple[str, Shape], BlockKind],
        granted: frozenset[str],
        claims: Mapping[str, tuple[str, ...]],
        claimants: Iterable[tuple[QueuedJob, Lane]],
    ) -> None:
        self._pool = pool
        self._standings = standings
        self._queue = queue
        self._lines = lines
        self._running = running
        self._policy = policy
        self._blocks = blocks
        self._granted = granted
        self._claims = claims
        self._claimants = claimants
        self._causes: dict[tuple[str, Shape], Cause] = {}
        self._by_shape: dict[Shape, Cause] = {}

    def waiting(self) -> Iterator[Waiting]:
        """Say of every job that wasn't granted why, in the order in which they are due.

        Those that can never be placed come last: nobody waits behind them. Work is done as far as somebody
        reads, so the head of a long queue costs little.
        """
        for position, (job, cause) in enumerate(self._in_order(), start=1):
            yield Waiting(job.id, cause.code, position, cause.numbers, cause.template)

    def causes(self) -> Iterator[tuple[Lane, Cause]]:
        """Say of each lane why its jobs wait, those aside that have nodes promised."""
        for lane in self._queue.lanes:
            yield lane, self.cause(lane)

    def cause(self, lane: Lane) -> Cause:
        """Say why the jobs of a lane wait, those aside that have nodes promised.

        It is the same for all lanes of one project and shape.
        """
        return self._cause(lane.project, lane.shape)

    def _in_order(self) -> Iterator[tuple[QueuedJob, Cause]]:
        for job, _ in sorted(self._claimants, key=lambda claim: self._rank(claim[0])):
            yield job, self._claim_cause(job)
        possible: dict[str, list[Shape]] = {}
        hopeless: dict[str, list[Shape]] = {}
        for name, line in self._lines.items():
            for shape in line.shapes():
                is_hopeless = self._cause(name, shape).code is WaitingCode.UNSCHEDULABLE
                (hopeless if is_hopeless else possible).setdefault(name, []).append(shape)
        for shapes in (possible, hopeless):
            for job, lane in self._merge(shapes):
                yield job, self.cause(lane)

    def _merge(self, shapes: Mapping[str, list[Shape]]) -> Iterator[tuple[QueuedJob, Lane]]:
        """Merge the projects' lines as if each job ahead already held what it asks for."""
        heap: list[tuple[float, Rank, str, Ahead, _Entry, Iterator[_Entry]]] = []
        for name, wanted in shapes.items():
            line = self._waiting_in(name, wanted)
            ahead = Ahead(self._standings, self._standings.of(name), self._pool)
            if (first := next(line, None)) is not None:
                heap.append((self._due(ahead, first[0]), first[0], name, ahead, first, line))
        heapq.heapify(heap)
        while heap:
            _, _, name, ahead, (_, job, lane), line = heap[0]
            yield job, lane
            following = next(line, None)
            if following is None:
                heapq.heappop(heap)
                continue
            if len(heap) > 1:
                ahead.add(lane.shape)
            due = self._due(ahead, following[0])
            heapq.heapreplace(heap, (due, following[0], name, ahead, following, line))

    def _due(self, ahead: "Ahead", first: Rank) -> float:
        return lent_score(ahead.score(), first, self._policy)

    def _waiting_in(self, project: str, shapes: list[Shape]) -> Iterator[_Entry]:
        for entry in self._lines[project].walk(shapes):
            if entry[1].id not in self._granted and entry[1].id not in self._claims:
                yield entry

    def _rank(self, job: QueuedJob) -> Rank:
        return rank(job, self._pool.now_seconds, self._policy)

    def _cause(self, project: str, shape: Shape) -> Cause:
        key = (project, shape)
        cause = self._causes.get(key)
        if cause is None:
            cause = self._causes[key] = self._explain(self._standings.of(project), shape)
        return cause

    def _claim_cause(self, job: QueuedJob) -> Cause:
        nodes = ", ".join(self._claims[job.id])
        return Cause(
            WaitingCode.WAITING_FOR_PREEMPTION,
            {"nodes": nodes},
            "room is being made on {nodes}: it starts when those jobs have saved and left",
        )

    def _explain(self, standing: Standing, shape: Shape) -> Cause:
        kind = self._blocks.get((standing.name, shape), BlockKind.CAPACITY)
        if kind is BlockKind.QUOTA:
            return self._quota(standing, shape)
        cause = self._by_shape.get(shape)
        if cause is None:
            cause = self._capacity(shape) if kind is BlockKind.CAPACITY else self._not_offered(shape)
            self._by_shape[shape] = cause
        return cause

    def _quota(self, standing: Standing, shape: Shape) -> Cause:
        flavor = self._pool.candidates(shape)[0].key.flavor
        quota = standing.quota(flavor)
        need = shape.gpus * shape.nodes
        used = standing.used.get(flavor, 0) + standing.leaving.get(flavor, 0)
        numbers: Numbers = {
            "project": standing.name,
            "flavor": flavor,
            "gpus": need,
            "used_gpus": used,
            "nominal_gpus": quota.nominal,
        }
        limit = quota.borrowing_limit
        if limit is not None and used + need > quota.nominal + limit:
            numbers["limit_gpus"] = quota.nominal + limit
            text = (
                "project {project} holds {used_gpus} {flavor} GPUs of at most {limit_gpus} (nominal "
                "{nominal_gpus} and what it may borrow), and this job needs {gpus}: "
            )
            if need > quota.nominal + limit:
                text += "ask for fewer, or for a larger quota"
            else:
                text += "it starts when jobs of the project end, or with a larger quota"
            return Cause(WaitingCode.QUOTA_EXCEEDED, numbers, text)
        return Cause(
            WaitingCode.QUOTA_EXCEEDED,
            numbers,
            "project {project} holds {used_gpus} {flavor} GPUs (nominal {nominal_gpus}) and this job needs "
            "{gpus}; what is idle belongs to projects that don't lend it: it starts when borrowers' jobs "
            "end, or with a larger quota",
        )

    def _capacity(self, shape: Shape) -> Cause:
        indices = [i for group in self._pool.candidates(shape) for i in group.indices]
        large = [i for i in indices if is_large_enough(self._pool.nodes[i], shape)]
        best = max(large, key=lambda i: (self._pool.idle(i), -i))
        numbers = _needs(shape)
        numbers["fitting_nodes"] = sum(self._pool.fits(i, shape) for i in large)
        numbers["large_nodes"] = len(large)
        numbers["best_node"] = self._pool.nodes[best].name
        numbers["free_gpus"], numbers["free_cpus"], free_memory = self._pool.idle(best)
        numbers["free_memory_gb"] = round(free_memory / _BYTES_PER_GB, 2)
        text = _needs_text(shape)
        text += "; {fitting_nodes} of the {large_nodes} large enough have room now, the emptiest is "
        text += "{best_node} with {free_gpus} GPUs, {free_cpus} CPUs and {free_memory_gb:g} GB free: "
        minutes = self._next_end_minutes(large)
        if minutes is None:
            text += "it starts when running jobs end"
        else:
            numbers["next_end_minutes"] = minutes
            text += "it starts when running jobs end, of which one reaches its limit in "
            text += "{next_end_minutes} minutes at the latest"
        kept_for = sorted({g.kept_for for g in self._pool.candidates(shape) if g.kept_for is not None})
        if kept_for:
            numbers["kept_for"] = ", ".join(kept_for)
            text += "; nodes are kept for who is first in line"
        return Cause(WaitingCode.WAITING_FOR_CAPACITY, numbers, text)

    def _next_end_minutes(self, indices: Iterable[int]) -> int | None:
        names = {self._pool.nodes[i].name for i in indices}
        ends = [
            allocation.started_seconds + allocation.max_runtime_seconds
            for allocation in self._running
            if allocation.max_runtime_seconds is not None
            and any(share.node in names for share in allocation.placements)
        ]
        if not ends:
            return None
        return max(1, round((min(ends) - self._pool.now_seconds) / 60))

    def _not_offered(self, shape: Shape) -> Cause:
        nodes = self._pool.nodes
        numbers = _needs(shape)
        if not nodes:
            return Cause(
                WaitingCode.WAITING_FOR_CAPACITY,
                numbers,
                "no node has reported yet: it starts when a worker is up",
            )
        allowed = [i for i in range(len(nodes)) if self._pool.allows(i, shape, at_any_price=True)]
        if not allowed:
            return self._no_such_nodes(shape, numbers)
        large = [i for i in allowed if is_large_enough(nodes[i], shape)]
        if len(large) < shape.nodes:
            return self._too_large(allowed, len(large), shape, numbers)
        affordable = [i for i in large if self._pool.allows(i, shape)]
        if len(affordable) < shape.nodes and shape.max_price_per_gpu_hour is not None:
            numbers["price_cap"] = shape.max_price_per_gpu_hour
            numbers["cheapest_price"] = min(self._pool.price(i) for i in large)
            return Cause(
                WaitingCode.PRICE_CAP,
                numbers,
                "its price cap is {price_cap:g} per GPU-hour and the cheapest nodes that can hold it cost "
                "{cheapest_price:g}: raise the cap, or wait for the price to fall",
            )
        down = [nodes[i].name for i in affordable if not nodes[i].up]
        numbers["down_nodes"] = ", ".join(down[:5])
        numbers["down"] = len(down)
        return Cause(
            WaitingCode.WAITING_FOR_CAPACITY,
            numbers,
            _needs_text(shape)
            + "; {down} large enough are down ({down_nodes}): it starts when they are back",
        )

    def _no_such_nodes(self, shape: Shape, numbers: Numbers) -> Cause:
        numbers["wanted"] = ", ".join(shape.flavors) or "any"
        numbers["flavors"] = ", ".join(sorted({node.flavor for node in self._pool.nodes}))
        if shape.spot is SpotPolicy.ONLY and (
            not shape.flavors or any(node.flavor in shape.flavors for node in self._pool.nodes)
        ):
            return Cause(
                WaitingCode.WAITING_FOR_CAPACITY,
                numbers,
                "it runs on spot nodes only and there is none: it starts when one is up, or with spot prefer",
            )
        return Cause(
            WaitingCode.UNSCHEDULABLE,
            numbers,
            "no node of the flavors that it allows ({wanted}) exists for its spot policy; the pool has "
            "{flavors}: allow one of them",
        )

    def _too_large(self, allowed: list[int], large: int, shape: Shape, numbers: Numbers) -> Cause:
        nodes = [self._pool.nodes[i] for i in allowed]
        most = max(nodes, key=lambda node: (len(node.gpu_ids), node.cpus, node.memory_bytes))
        numbers["large_nodes"] = large
        numbers["largest_node"] = most.name
        numbers["largest_gpus"] = len(most.gpu_ids)
        numbers["largest_cpus"] = most.cpus
        numbers["largest_memory_gb"] = round(most.memory_bytes / _BYTES_PER_GB, 2)
        return Cause(
            WaitingCode.UNSCHEDULABLE,
            numbers,
            _needs_text(shape)
            + "; the pool has {large_nodes} such nodes, the largest is {largest_node} with "
            "{largest_gpus} GPUs, {largest_cpus} CPUs and {largest_memory_gb:g} GB: ask for less, or add "
            "nodes",
        )


class Ahead:
    """A project's score as its queued jobs would raise it one after the other."""

    __slots__ = ("_cpus", "_flavor", "_gpus", "_memory", "_pool", "_recent", "_standing", "_standings")

    def __init__(self, standings: Standings, standing: Standing, pool: Pool) -> None:
        self._standings = standings
        self._standing = standing
        self._pool = pool
        self._flavor = ""
        self._gpus = self._cpus = self._memory = 0
        self._recent = 0.0

    def add(self, shape: Shape) -> None:
        """Count a job as ahead of the next."""
        groups = self._pool.candidates(shape)
        if not groups:
            return
        self._flavor = groups[0].key.flavor
        gpus, cpus = shape.gpus * shape.nodes, shape.cpus * shape.nodes
        self._gpus += gpus
        self._cpus += cpus
        self._memory += shape.memory_bytes * shape.nodes
        self._recent += self._standings.entry_penalty(gpus, cpus)

    def score(self) -> float:
        """Return the score with all that was added."""
        share = self._standing.share_with(self._flavor, self._gpus, self._cpus, self._memory)
        return self._standings.blend(share, self._standing.recent + self._recent, self._standing.weight)


def _needs(shape: Shape) -> Numbers:
    return {
        "nodes": shape.nodes,
        "gpus": shape.gpus,
        "cpus": shape.cpus,
        "memory_gb": round(shape.memory_bytes / _BYTES_PER_GB, 2),
    }


def _needs_text(shape: Shape) -> str:
    nodes = "1 node" if shape.nodes == 1 else "{nodes} nodes at once, each"
    return f"needs {nodes} with {{gpus}} GPUs, {{cpus}} CPUs and {{memory_gb:g}} GB"
