"""Who leaves for whom. Plans the fewest preemptions that make room for one job, or none.

Five rules:

- reclaim: the preemptor stays within its nominal quota, the victim's project is beyond its own.
- fair share (Kueue's LessThanOrEqualToFinalShare, made strict): with the new job the preemptor's share
  is at most what is left to the victim's project, and that is less than it was.
- priority: within a project, strictly higher over lower, by the priorities that people gave. Ageing
  doesn't count, because a victim ages too.
- turn: within a project, and of no higher priority, who has not had its turn over who has.
- lent turn: the same between projects, the victim's beyond its nominal quota. With the new job the
  preemptor's share, divided by the advance that turns have, is at most what is left to the victim's project.

None of them can undo its own move at once, but mixed they could: a job that was guaranteed when it
started may be the youngest of a project that has borrowed since. So there is an order beside them. Who
made way for a job stays below it, and below all that it stays below, and nobody preempts a job above.
That order has no cycles, so preemptions among the same jobs come to an end: of those that would be
preempted for ever take a highest; whoever preempts it for ever is higher, and must be preempted for ever
itself. The minimum runtime and the eviction cap bound what a job can lose on the way.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steelyard.compute.scheduler.pool import Group, GroupKey, Pool
from steelyard.compute.scheduler.priorities import had_its_turn, waited_seconds
from steelyard.compute.scheduler.queue import JobQueue, QueuedJob, Shape
from steelyard.compute.scheduler.shares import Standing, Standings
from steelyard.compute.scheduler.snapshot import Allocation, Policy, PreemptionRule

_WITHIN_PROJECT = frozenset((PreemptionRule.PRIORITY, PreemptionRule.TURN))
_OF_PROJECT = _WITHIN_PROJECT | {PreemptionRule.LENT_TURN}
"""Whether there is a victim depends on whose the job is, beside its shape and strength."""
_SEARCHES = 40
"""How often a round looks for victims in earnest; what is not reached then comes in a later round."""
_VICTIMS = 64
"""How many a round asks to leave, about; the rest comes in the next, long before these have saved."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Victims, and the nodes that will hold the job when they have left. No victims: those that are
    stopping already make the room."""

    group: Group
    victims: tuple[Allocation, ...]
    nodes: tuple[int, ...]
    rule: PreemptionRule


class Preemptor:
    """Finds victims within one round; remembers whom it chose."""

    def __init__(
        self,
        pool: Pool,
        standings: Standings,
        running: Iterable[Allocation],
        queue: JobQueue,
        policy: Policy,
    ) -> None:
        self._pool = pool
        self._standings = standings
        self._policy = policy
        self._searches_left = _SEARCHES
        self._victims_left = _VICTIMS
        self._failed: dict[tuple[PreemptionRule, str, Shape, GroupKey], float] = {}
        """Searches in vain, with the strength of the claim: no weaker one needs to be tried."""
        self._index: dict[str, list[Allocation]] = {}
        latest_start = pool.now_seconds - policy.min_runtime_seconds
        for allocation in running:
            if allocation.started_seconds <= latest_start and self._may_leave(allocation):
                self._index.setdefault(allocation.project, []).append(allocation)
        for found in self._index.values():
            found.sort(key=_victim_order)
        self._turned: dict[str, list[Allocation]] = {}
        """By project, as far as somebody asked: those that have had their turn."""
        self._made_way = {a.job_id: a.made_way_for for a in running if a.made_way_for}
        for lane, jobs in queue.lanes.items():
            if lane.made_way_for:
                self._made_way |= dict.fromkeys((job.id for job in jobs), lane.made_way_for)

    def plan(
        self,
        job: QueuedJob,
        shape: Shape,
        standing: Standing,
        groups: Sequence[Group],
        rule: PreemptionRule,
    ) -> Plan | None:
        """Return the plan by `rule` in the first of `groups` in which there is one.

        Where another group will have room anyhow, as jobs are leaving it, nobody is preempted.
        """
        if rule not in self._policy.preemption or not self._index or self._is_done:
            return None
        for group in groups:
            plan = self._search(job, shape, standing, group, rule)
            if plan is not None:
                return self._room_to_come(shape, standing, groups, rule) or plan
        return None

    def could_help(self, project: str, highest_priority: int) -> bool:
        """Whether a job of `project` of at most this priority might take a place of its own project.

        Once that is not so, it is never again in this round.
        """
        if self._is_done:
            return False
        rules, own = self._policy.preemption, self._index.get(project)
        if not own:
            return False
        if (
            PreemptionRule.PRIORITY in rules
            and own[0].priority + self._policy.priority_margin <= highest_priority
        ):
            return True
        turned = self._with_turn(project) if PreemptionRule.TURN in rules else ()
        return bool(turned) and turned[0].priority <= highest_priority

    def forget(self, plan: Plan) -> None:
        """Take the victims of a plan that is carried out from the list."""
        gone = {victim.job_id for victim in plan.victims}
        self._victims_left -= len(gone)
        for project in {victim.project for victim in plan.victims}:
            self._turned.pop(project, None)
            self._index[project] = [a for a in self._index[project] if a.job_id not in gone]
            if not self._index[project]:
                del self._index[project]

    @property
    def _is_done(self) -> bool:
        return self._searches_left == 0 or self._victims_left <= 0

    def _may_leave(self, allocation: Allocation) -> bool:
        return (
            allocation.preemptible
            and not allocation.stopping
            and allocation.evictions < self._policy.eviction_cap
        )

    def _with_turn(self, project: str) -> list[Allocation]:
        """Return the project's jobs that have had their turn: lowest priority first, then who ran longest."""
        found = self._turned.get(project)
        if found is None:
            found = [each for each in self._index.get(project, ()) if self._has_had_its_turn(each)]
            found.sort(key=lambda each: (each.priority, -self._ran(each), each.job_id))
            self._turned[project] = found
        return found

    def _is_due_a_turn(self, job: QueuedJob, shape: Shape) -> bool:
        """Whether it has waited in vain for room that comes by itself, and has a turn left.

        Who has waited for longer than anybody should has a new one.
        """
        waited = waited_seconds(job, self._pool.now_seconds)
        if waited < self._policy.turn_wait_seconds:
            return False
        if not had_its_turn(job.ran_seconds, shape.gpus * shape.nodes, self._policy):
            return True
        return waited >= self._policy.patience_seconds

    def _has_had_its_turn(self, allocation: Allocation) -> bool:
        ran = self._pool.now_seconds - allocation.started_seconds
        return allocation.saves and had_its_turn(
            ran, _held(allocation)[0], self._policy, allocation.evictions
        )

    def _ran(self, allocation: Allocation) -> float:
        return allocation.ran_seconds + self._pool.now_seconds - allocation.started_seconds

    def _worth_trying(
        self, job: QueuedJob, shape: Shape, standing: Standing, group: Group, rule: PreemptionRule
    ) -> bool:
        """Refuse in a few comparisons what the search would refuse after looking at every victim."""
        self._pool.steps += len(self._index)
        if rule is PreemptionRule.PRIORITY:
            own = self._index.get(job.project)
            return bool(own) and own[0].priority + self._policy.priority_margin <= job.priority
        if rule is PreemptionRule.TURN:
            if not self._is_due_a_turn(job, shape):
                return False
            turned = self._with_turn(job.project)
            return bool(turned) and turned[0].priority <= job.priority
        flavor = group.key.flavor
        if rule is PreemptionRule.RECLAIM:
            return any(
                self._standings.of(name).nominal_gpus_free(flavor) < 0
                for name in self._index
                if name != job.project
            )
        mine = _share_with(standing, flavor, shape)
        if rule is PreemptionRule.FAIR_SHARE:
            return any(self._has_more(name, mine) for name in self._index if name != job.project)
        if not self._is_due_a_turn(job, shape):
            return False
        mine /= self._policy.turn_advance
        others = (name for name in self._index if name != job.project)
        return any(self._has_more(name, mine) and self._with_turn(name) for name in others)

    def _has_more(self, project: str, share: float) -> bool:
        return self._standings.of(project).share() > share

    def _search(
        self, job: QueuedJob, shape: Shape, standing: Standing, group: Group, rule: PreemptionRule
    ) -> Plan | None:
        if not self._worth_trying(job, shape, standing, group, rule):
            return None
        own = job.project if rule in _OF_PROJECT else ""
        search = (rule, own, shape, group.key)
        strength = self._strength(job, shape, standing, group, rule)
        if self._is_done or self._failed.get(search, -math.inf) >= strength:
            return None
        self._searches_left -= 1
        advance = self._policy.turn_advance if rule is PreemptionRule.LENT_TURN else 1.0
        trial = _Trial(self._pool, self._standings, group, shape, standing, rule, advance)
        above = self._above(job)
        plan = trial.run(self._eligible(job, standing, rule, above))
        if plan is None and not above:
            self._failed[search] = strength
        return plan

    def _above(self, job: QueuedJob) -> frozenset[str]:
        """Return the jobs that it made way for, those that these made way for, and so on."""
        above: set[str] = set()
        coming = list(job.made_way_for)
        while coming:
            name = coming.pop()
            if name not in above:
                above.add(name)
                coming += self._made_way.get(name, ())
        return frozenset(above)

    def _room_to_come(
        self, shape: Shape, standing: Standing, groups: Sequence[Group], rule: PreemptionRule
    ) -> Plan | None:
        for group in groups:
            trial = _Trial(self._pool, self._standings, group, shape, standing, rule)
            plan = trial.run({})
            if plan is not None:
                return plan
        return None

    def _strength(
        self, job: QueuedJob, shape: Shape, standing: Standing, group: Group, rule: PreemptionRule
    ) -> float:
        """Return what grows with the victims that a job may have; of one shape, nothing else counts."""
        if rule in _WITHIN_PROJECT:
            return job.priority
        if rule is PreemptionRule.RECLAIM:
            return 0.0
        return -_share_with(standing, group.key.flavor, shape)

    def _eligible(
        self, job: QueuedJob, standing: Standing, rule: PreemptionRule, above: frozenset[str]
    ) -> dict[str, list[Allocation]]:
        if rule is PreemptionRule.PRIORITY:
            highest = job.priority - self._policy.priority_margin
            found = {standing.name: [a for a in self._index[standing.name] if a.priority <= highest]}
        elif rule is PreemptionRule.TURN:
            turned = self._with_turn(standing.name)
            found = {standing.name: [a for a in turned if a.priority <= job.priority]}
        elif rule is PreemptionRule.LENT_TURN:
            others = (name for name in self._index if name != standing.name)
            found = {name: turned for name in others if (turned := self._with_turn(name))}
        else:
            found = {name: victims for name, victims in self._index.items() if name != standing.name}
        if not above:
            return found
        return {name: [a for a in victims if a.job_id not in above] for name, victims in found.items()}


class _Trial:
    """One search. Changes pool and standings while it searches and puts all back before it returns."""

    def __init__(
        self,
        pool: Pool,
        standings: Standings,
        group: Group,
        shape: Shape,
        standing: Standing,
        rule: PreemptionRule,
        advance: float = 1.0,
    ) -> None:
        self._pool = pool
        self._standings = standings
        self._group = group
        self._shape = shape
        self._standing = standing
        self._rule = rule
        self._members = frozenset(group.indices)
        self._fitting: set[int] = set()
        self._mine = _share_with(standing, group.key.flavor, shape) / advance

    def run(self, by_project: dict[str, list[Allocation]]) -> Plan | None:
        pool, shape = self._pool, self._shape
        pool.steps += len(self._members)
        gpus, cpus, memory = pool.future_gpus, pool.future_cpus, pool.future_memory
        self._fitting = {
            i
            for i in self._members
            if gpus[i] >= shape.gpus and cpus[i] >= shape.cpus and memory[i] >= shape.memory_bytes
        }
        useful = self._useful(by_project)
        if len(useful) < shape.nodes:
            return None
        chosen: list[Allocation] = []
        enough = self._enough()
        for victim in self._in_order(by_project, useful):
            if enough:
                break
            self._remove(victim)
            chosen.append(victim)
            enough = self._enough()
        plan = self._minimal(chosen) if enough else None
        for victim in plan.victims if plan else chosen:
            self._restore(victim)
        return plan

    def _in_order(
        self, by_project: dict[str, list[Allocation]], useful: frozenset[int]
    ) -> Iterable[Allocation]:
        """Yield victims: of the project with the highest share first; the caller removes each at once."""
        heap = [(-self._standings.of(name).share(), name, 0) for name in by_project]
        heapq.heapify(heap)
        while heap:
            _, name, place = heapq.heappop(heap)
            found = by_project[name]
            standing = self._standings.of(name)
            while place < len(found):
                victim = found[place]
                place += 1
                self._pool.steps += 1
                if self._helps(victim, useful) and self._allowed(standing, victim):
                    yield victim
                    break
            if place < len(found):
                heapq.heappush(heap, (-standing.share(), name, place))

    def _useful(self, by_project: dict[str, list[Allocation]]) -> frozenset[int]:
        """Return the nodes that would hold a member if every candidate left them."""
        pool, shape = self._pool, self._shape
        gains: dict[int, list[int]] = {}
        for found in by_project.values():
            self._pool.steps += len(found)
            for victim in found:
                for share in victim.placements:
                    i = pool.index.get(share.node, -1)
                    if i in self._members:
                        gain = gains.setdefault(i, [0, 0, 0])
                        gain[0] += share.gpus
                        gain[1] += share.cpus
                        gain[2] += share.memory_bytes
        useful = set(self._fitting)
        for i, (gpus, cpus, memory) in gains.items():
            if (
                pool.future_gpus[i] + gpus >= shape.gpus
                and pool.future_cpus[i] + cpus >= shape.cpus
                and pool.future_memory[i] + memory >= shape.memory_bytes
            ):
                useful.add(i)
        return frozenset(useful)

    def _helps(self, victim: Allocation, useful: frozenset[int]) -> bool:
        """Whether it holds a node that matters, or quota that its own project is short of."""
        if self._rule in _WITHIN_PROJECT and not self._quota_suffices():
            return True
        return any(
            (i := self._pool.index.get(share.node, -1)) in useful and i not in self._fitting
            for share in victim.placements
        )

    def _allowed(self, standing: Standing, victim: Allocation) -> bool:
        if self._rule in _WITHIN_PROJECT:
            return True
        flavor = self._group.key.flavor
        if self._rule is PreemptionRule.RECLAIM:
            return standing.nominal_gpus_free(flavor) < 0
        before = standing.share()
        gpus, cpus, memory = _held(victim)
        without = standing.share_with(self._pool.flavor_of(victim.placements[0].node), -gpus, -cpus, -memory)
        return self._mine <= without < before

    def _enough(self) -> bool:
        return len(self._fitting) >= self._shape.nodes and self._quota_suffices()

    def _quota_suffices(self) -> bool:
        room = self._standings.quota_room(self._standing, self._group.key.flavor)
        return room >= self._shape.gpus * self._shape.nodes

    def _minimal(self, chosen: list[Allocation]) -> Plan:
        """Let everyone stay without whom it is enough, those chosen last first."""
        kept: list[Allocation] = []
        for victim in reversed(chosen):
            self._restore(victim)
            if not self._enough():
                self._remove(victim)
                kept.append(victim)
        nodes = sorted(self._fitting, key=lambda i: (self._pool.future_gpus[i], i))[: self._shape.nodes]
        return Plan(self._group, tuple(reversed(kept)), tuple(nodes), self._rule)

    def _remove(self, victim: Allocation) -> None:
        self._move(victim, 1)

    def _restore(self, victim: Allocation) -> None:
        self._move(victim, -1)

    def _move(self, victim: Allocation, sign: int) -> None:
        standing = self._standings.of(victim.project)
        for share in victim.placements:
            self._pool.steps += 1
            i = self._pool.index.get(share.node)
            flavor = self._pool.flavor_of(share.node)
            standing.add(flavor, -sign * share.gpus, -sign * share.cpus, -sign * share.memory_bytes)
            if i is None:
                continue
            self._pool.expect(i, sign * share.cpus, sign * share.memory_bytes, sign * share.gpus)
            if i in self._members:
                if self._pool.fits_future(i, self._shape):
                    self._fitting.add(i)
                else:
                    self._fitting.discard(i)


def apply(plan: Plan, pool: Pool, standings: Standings) -> None:
    """Count the plan's victims as leaving. What they hold stays in use until they have left."""
    for victim in plan.victims:
        standing = standings.of(victim.project)
        for share in victim.placements:
            i = pool.index.get(share.node)
            flavor = pool.flavor_of(share.node)
            standing.leave(flavor, share.gpus, share.cpus, share.memory_bytes)
            if i is not None:
                pool.expect(i, share.cpus, share.memory_bytes, share.gpus)


def _share_with(standing: Standing, flavor: str, shape: Shape) -> float:
    n = shape.nodes
    return standing.share_with(flavor, shape.gpus * n, shape.cpus * n, shape.memory_bytes * n)


def _held(victim: Allocation) -> tuple[int, int, int]:
    gpus = cpus = memory = 0
    for share in victim.placements:
        gpus += share.gpus
        cpus += share.cpus
        memory += share.memory_bytes
    return gpus, cpus, memory


def _victim_order(allocation: Allocation) -> tuple[int, float, float, str]:
    """Lowest priority, youngest, least to lose, then by id."""
    age = allocation.checkpoint_age_seconds
    lost = math.inf if age is None else age
    return allocation.priority, -allocation.started_seconds, lost, allocation.job_id
