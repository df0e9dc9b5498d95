"""One round of the scheduler, pass by pass.

1. Jobs for which earlier preemptions make room get it, or keep their claim to it.
2. Guaranteed: projects in order of score start what stays within their nominal quotas, and reclaim
   from borrowers what free capacity doesn't cover.
3. Shared: what is left is lent, the project with the lowest score first, its highest priority first. The
   score of a project whose first job has not had its turn counts as a part of what it is.
   The first job of a group that doesn't fit has nodes kept for it; smaller ones behind it fill the rest.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from steelyard.compute.scheduler import preemption
from steelyard.compute.scheduler.decisions import Decisions, Grant, Nomination, Preemption
from steelyard.compute.scheduler.explanation import BlockKind, Explanation
from steelyard.compute.scheduler.lines import ProjectLine
from steelyard.compute.scheduler.pool import Group, Pool
from steelyard.compute.scheduler.preemption import Plan, Preemptor
from steelyard.compute.scheduler.priorities import Rank, lent_score, rank, waited_seconds
from steelyard.compute.scheduler.queue import JobQueue, Lane, QueuedJob, Shape
from steelyard.compute.scheduler.shares import Standing, Standings
from steelyard.compute.scheduler.snapshot import PreemptionRule, Snapshot

_BETWEEN_PROJECTS = PreemptionRule.FAIR_SHARE, PreemptionRule.LENT_TURN


@dataclass(frozen=True, slots=True)
class _Options:
    """The groups whose quota admits a job, those first where it stays within its nominal part."""

    guaranteed: list[Group]
    lent: list[Group]

    def __iter__(self) -> Iterator[Group]:
        yield from self.guaranteed
        yield from self.lent


class Round:
    """One call of `decide`. Holds all that changes while it runs."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._policy = snapshot.policy
        self._running = sorted(snapshot.running, key=lambda allocation: allocation.job_id)
        self._pool = Pool(snapshot.nodes, snapshot.flavors, self._running, snapshot.now_seconds)
        self._standings = Standings(self._pool, snapshot.projects, self._running, self._policy)
        self._preemptor_made: Preemptor | None = None
        self._grants: list[Grant] = []
        self._preemptions: list[Preemption] = []
        self._nominations: list[Nomination] = []
        self._blocks: dict[tuple[str, Shape], BlockKind] = {}
        self._keepers: dict[tuple[str, Shape], set[str]] = {}
        """Those for whom nodes are kept and who were not served since, by project and shape."""
        queued = snapshot.queued
        self._queue = queued if isinstance(queued, JobQueue) else JobQueue.of(queued)
        self._claimed: list[tuple[QueuedJob, Lane]] = []
        self._claimants: list[tuple[QueuedJob, Lane]] = []
        """Those whose claims stand at the round's end."""
        self._lines = self._line_up()

    def run(self) -> Decisions:
        """Decide."""
        self._honour_claims()
        self._guarantee()
        for line in self._lines.values():
            line.resume()
        self._share_out()
        explanation = Explanation(
            self._pool,
            self._standings,
            self._queue,
            self._lines,
            self._running,
            self._policy,
            self._blocks,
            frozenset(grant.job_id for grant in self._grants),
            {nomination.job_id: nomination.nodes for nomination in self._nominations},
            self._claimants,
        )
        return Decisions(
            tuple(self._grants),
            tuple(self._preemptions),
            tuple(self._nominations),
            self._pool.steps,
            explanation,
        )

    def _line_up(self) -> dict[str, ProjectLine]:
        lines: dict[str, ProjectLine] = {}
        for lane, jobs in self._queue.lanes.items():
            self._pool.steps += 1
            line = lines.get(lane.project)
            if line is None:
                standing = self._standings.of(lane.project)
                line = lines[lane.project] = ProjectLine(standing, self._snapshot.now_seconds, self._policy)
            if lane.claims:
                self._claimed += [(job, lane) for job in jobs]
            else:
                line.add(lane, jobs)
        return lines

    def _honour_claims(self) -> None:
        """Grant or renew what was promised; a promise that can't be kept is forgotten."""
        self._claimed.sort(key=lambda claim: rank(claim[0], self._pool.now_seconds, self._policy))
        for job, lane in self._claimed:
            shape, standing = lane.shape, self._standings.of(job.project)
            indices = self._claimed_nodes(job, shape)
            if indices is None:
                self._lines[job.project].add(lane, (job,))
                continue
            group = self._pool.group_of[indices[0]]
            if self._quota_admits(standing, group, shape) and all(self._pool.fits(i, shape) for i in indices):
                self._grant(job, shape, standing, group, indices)
                continue
            self._pool.promise(indices, shape)
            self._hold(standing, group, shape)
            self._nominations.append(Nomination(job.id, job.nominated_nodes))
            self._claimants.append((job, lane))

    def _claimed_nodes(self, job: QueuedJob, shape: Shape) -> list[int] | None:
        indices = [i for name in job.nominated_nodes if (i := self._pool.index.get(name)) is not None]
        if len(set(indices)) != shape.nodes:
            return None
        if any(not self._pool.nodes[i].up or not self._pool.fits_future(i, shape) for i in indices):
            return None
        group = self._pool.group_of[indices[0]]
        if any(self._pool.group_of[i] is not group for i in indices) or not self._pool.allows(
            indices[0], shape
        ):
            return None
        return indices

    def _guarantee(self) -> None:
        """Serve nominal quotas: projects by score, a project's jobs in order."""
        heap: list[tuple[float, str]] = []
        for name, line in self._lines.items():
            if any(quota.nominal for quota in line.standing.quotas.values()):
                heap.append((self._standings.score(line.standing), name))
        heapq.heapify(heap)
        while heap:
            _, name = heapq.heappop(heap)
            line = self._lines[name]
            if self._serve_guaranteed(line):
                heapq.heappush(heap, (self._standings.score(line.standing), name))

    def _serve_guaranteed(self, line: ProjectLine) -> bool:
        """Start or make room for the project's first guaranteed job; return whether there was one."""
        while (top := line.top()) is not None:
            job, lane = top
            shape = lane.shape
            self._pool.steps += 1
            if (job.project, shape) in self._blocks:
                line.put_off_rack()
                continue
            first = line.rank()
            options = self._options(line.standing, shape)
            if self._start(job, lane, line, options.guaranteed):
                line.recall(first)
                return True
            if any(self._pool.find(group, shape) for group in options.lent):
                return False
            if options.guaranteed:
                if self._make_room(job, shape, line, options.guaranteed, PreemptionRule.RECLAIM):
                    line.recall(first)
                    return True
                self._block(job, shape, options)
            # As long as nothing starts, all of its shape fare like it.
            line.put_off_rack()
        return False

    def _share_out(self) -> None:
        """Serve the rest: the project with the lowest score first, always."""
        heap: list[tuple[float, Rank, str]] = []
        for name, line in self._lines.items():
            self._push(heap, name, line)
        while heap:
            _, _, name = heapq.heappop(heap)
            line = self._lines[name]
            self._serve_shared(line)
            self._push(heap, name, line)

    def _push(self, heap: list[tuple[float, Rank, str]], name: str, line: ProjectLine) -> None:
        if line.top() is not None:
            score = lent_score(self._standings.score(line.standing), line.rank(), self._policy)
            heapq.heappush(heap, (score, line.rank(), name))

    def _serve_shared(self, line: ProjectLine) -> None:
        """Serve the project's first job, and drop those behind it that are blocked like others before."""
        self._serve_next(line)
        while (top := line.top()) is not None:
            job, lane = top
            if (job.project, lane.shape) not in self._blocks or self._may_backfill(lane):
                return
            self._pool.steps += 1
            if self._nothing_can_start_of(line):
                line.rest()
            else:
                self._preempt_own(job, lane.shape, line)

    def _nothing_can_start_of(self, line: ProjectLine) -> bool:
        """Whether no job of the first one's shape, which is blocked, may backfill or take a place of its own
        project, as long as no other nodes are kept for anybody."""
        rack = line.top_rack()
        if rack is None:
            return False
        shape, project = rack.shape, line.standing.name
        groups = self._pool.candidates(shape)
        if any(self._pool.may_backfill(group, shape, rack.shortest_seconds) for group in groups):
            return False
        if any(group.kept_for in self._keepers.get((project, shape), ()) for group in groups):
            return False
        return not self._preemptor().could_help(project, rack.highest_priority)

    def _serve_next(self, line: ProjectLine) -> None:
        top = line.top()
        if top is None:
            return
        job, lane = top
        shape = lane.shape
        self._pool.steps += 1
        options = self._options(line.standing, shape)
        if self._start(job, lane, line, list(options)):
            return
        if (job.project, shape) in self._blocks:
            self._preempt_own(job, shape, line)
            return
        if self._make_room_among_own(job, shape, line):
            return
        for rule in _BETWEEN_PROJECTS:
            if self._make_room(job, shape, line, list(options), rule):
                return
        self._block(job, shape, options)
        line.skip()

    def _preempt_own(self, job: QueuedJob, shape: Shape, line: ProjectLine) -> None:
        """Help a job whose like is blocked, if its project's own jobs can make room; else drop its lane."""
        if not self._make_room_among_own(job, shape, line):
            line.skip()

    def _make_room_among_own(self, job: QueuedJob, shape: Shape, line: ProjectLine) -> bool:
        groups = self._pool.candidates(shape)
        own = next((group for group in groups if group.kept_for == job.id), None)
        if own is not None:
            self._keepers[job.project, shape].discard(job.id)
            # What is kept for the job itself must not look taken to it, or somebody leaves for nothing.
            self._pool.release(own, shape)
        made = self._make_room(job, shape, line, groups, PreemptionRule.PRIORITY) or self._make_room(
            job, shape, line, groups, PreemptionRule.TURN
        )
        if own is not None and not made:
            self._keep(own, shape, job.id, patient=False)
        return made

    def _keep(self, group: Group, shape: Shape, job_id: str, *, patient: bool) -> None:
        before = group.kept_until_seconds
        self._pool.keep(group, shape, job_id, patient=patient)
        until = group.kept_until_seconds
        if until is not None and (before is None or until > before):
            for line in self._lines.values():
                line.wake()

    def _may_backfill(self, lane: Lane) -> bool:
        if not self._pool.keeps_for_a_time:
            return False
        return any(
            self._pool.may_backfill(group, lane.shape, lane.max_runtime_seconds)
            for group in self._pool.candidates(lane.shape)
        )

    def _start(self, job: QueuedJob, lane: Lane, line: ProjectLine, groups: list[Group]) -> bool:
        for group in groups:
            indices = self._pool.find(group, lane.shape)
            if indices is None and self._pool.may_backfill(group, lane.shape, lane.max_runtime_seconds):
                indices = self._pool.find_beside(group, lane.shape)
            if indices is not None:
                self._grant(job, lane.shape, line.standing, group, indices)
                line.take()
                return True
        return False

    def _grant(
        self, job: QueuedJob, shape: Shape, standing: Standing, group: Group, indices: list[int]
    ) -> None:
        placements = tuple(self._pool.take(i, shape) for i in indices)
        self._hold(standing, group, shape)
        borrowed = shape.gpus == 0 or standing.nominal_gpus_free(group.key.flavor) < 0
        self._grants.append(Grant(job.id, placements, group.key.flavor, borrowed))

    def _hold(self, standing: Standing, group: Group, shape: Shape) -> None:
        gpus, cpus = shape.gpus * shape.nodes, shape.cpus * shape.nodes
        standing.add(group.key.flavor, gpus, cpus, shape.memory_bytes * shape.nodes)
        standing.recent += self._standings.entry_penalty(gpus, cpus)

    def _make_room(
        self, job: QueuedJob, shape: Shape, line: ProjectLine, groups: list[Group], rule: PreemptionRule
    ) -> bool:
        plan = self._preemptor().plan(job, shape, line.standing, groups, rule)
        if plan is None:
            return False
        self._carry_out(plan, job, shape, line.standing)
        if (top := line.top()) is not None:
            self._claimants.append(top)
        line.take()
        return True

    def _carry_out(self, plan: Plan, job: QueuedJob, shape: Shape, standing: Standing) -> None:
        preemption.apply(plan, self._pool, self._standings)
        self._preemptor().forget(plan)
        self._pool.promise(plan.nodes, shape)
        self._hold(standing, plan.group, shape)
        for victim in plan.victims:
            self._preemptions.append(Preemption(victim.job_id, plan.rule, job.id))
        names = tuple(self._pool.nodes[i].name for i in plan.nodes)
        self._nominations.append(Nomination(job.id, names))

    def _block(self, job: QueuedJob, shape: Shape, options: _Options) -> None:
        """Note why jobs of this project and shape wait; keep nodes for the first that lacks capacity."""
        groups = list(options) or self._later_options(job.project, shape)
        if groups:
            kind = BlockKind.CAPACITY
        elif self._pool.candidates(shape):
            kind = BlockKind.QUOTA
        else:
            kind = BlockKind.NOT_OFFERED
        self._blocks[job.project, shape] = kind
        if groups and groups[0].kept_for is None:
            waited = waited_seconds(job, self._snapshot.now_seconds)
            self._keep(groups[0], shape, job.id, patient=waited < self._policy.patience_seconds)
            self._keepers.setdefault((job.project, shape), set()).add(job.id)

    def _options(self, standing: Standing, shape: Shape) -> _Options:
        guaranteed: list[Group] = []
        lent: list[Group] = []
        need = shape.gpus * shape.nodes
        for group in self._pool.candidates(shape):
            if not self._quota_admits(standing, group, shape):
                continue
            within = need > 0 and standing.nominal_gpus_free(group.key.flavor) >= need
            (guaranteed if within else lent).append(group)
        return _Options(guaranteed, lent)

    def _later_options(self, project: str, shape: Shape) -> list[Group]:
        """Return the groups where it is room that a job lacks first, whatever others don't lend."""
        standing, need = self._standings.of(project), shape.gpus * shape.nodes
        return [
            group
            for group in self._pool.candidates(shape)
            if self._standings.lacks_room_only(standing, group.key.flavor, need)
        ]

    def _quota_admits(self, standing: Standing, group: Group, shape: Shape) -> bool:
        need = shape.gpus * shape.nodes
        return need == 0 or self._standings.quota_room(standing, group.key.flavor) >= need

    def _preemptor(self) -> Preemptor:
        if self._preemptor_made is None:
            self._preemptor_made = Preemptor(
                self._pool, self._standings, self._running, self._queue, self._policy
            )
        return self._preemptor_made
