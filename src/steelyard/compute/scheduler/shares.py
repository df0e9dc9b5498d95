"""Who is due next: what each project holds and used, and the share that follows from it.

The dominant share of a project is what it holds beyond its nominal quota, as a part of the pool, of the
resource of which that part is largest (GPUs, CPUs, memory), divided by its weight. A nominal quota of
GPUs brings the same part of its flavor's CPUs and memory. It is the share of Kueue's fair sharing, with
CPUs and memory added (after Ghodsi et al., Dominant Resource Fairness, NSDI 2011).
"""

import math
from collections.abc import Iterable

from steelyard.compute.scheduler.pool import Pool
from steelyard.compute.scheduler.snapshot import Allocation, Policy, Project, Quota

_NO_QUOTA = Quota("")


class Totals:
    """What the nodes that are up have together, and per flavor."""

    def __init__(self, pool: Pool) -> None:
        self.gpus = self.cpus = self.memory_bytes = 0
        self.flavors: dict[str, tuple[int, int, int]] = {}
        for node in pool.nodes:
            if not node.up:
                continue
            gpus, cpus, memory = self.flavors.get(node.flavor, (0, 0, 0))
            found = gpus + len(node.gpu_ids), cpus + node.cpus, memory + node.memory_bytes
            self.flavors[node.flavor] = found
            self.gpus += len(node.gpu_ids)
            self.cpus += node.cpus
            self.memory_bytes += node.memory_bytes


class Standing:
    """One project during a round. Changed by the round as it grants and plans preemptions."""

    __slots__ = (
        "_nominal_cpus",
        "_nominal_memory",
        "_over_gpus",
        "_share",
        "_totals",
        "cpus",
        "leaving",
        "memory_bytes",
        "name",
        "quotas",
        "recent",
        "used",
        "weight",
    )

    def __init__(self, project: Project, totals: Totals) -> None:
        self.name = project.name
        self.weight = project.weight
        self.quotas = {quota.flavor: quota for quota in project.quotas}
        self.used: dict[str, int] = {}
        """GPUs held by flavor, without those of jobs that were asked to leave: these are in `leaving`."""
        self.leaving: dict[str, int] = {}
        self.cpus = self.memory_bytes = 0
        self.recent = 0.0
        self._totals = totals
        self._over_gpus = 0
        self._share: float | None = 0.0
        self._nominal_cpus = self._nominal_memory = 0.0
        for quota in project.quotas:
            gpus, cpus, memory = totals.flavors.get(quota.flavor, (0, 0, 0))
            if gpus:
                part = min(1.0, quota.nominal / gpus)
                self._nominal_cpus += part * cpus
                self._nominal_memory += part * memory

    def quota(self, flavor: str) -> Quota:
        """Return the quota in `flavor`; where none is set, nothing is nominal and all may be borrowed."""
        return self.quotas.get(flavor, _NO_QUOTA)

    def add(self, flavor: str, gpus: int, cpus: int, memory_bytes: int) -> None:
        """Count capacity as held; negative amounts give it back."""
        before = self.used.get(flavor, 0)
        nominal = self.quota(flavor).nominal
        self.used[flavor] = before + gpus
        self._over_gpus += max(0, before + gpus - nominal) - max(0, before - nominal)
        self.cpus += cpus
        self.memory_bytes += memory_bytes
        self._share = None

    def leave(self, flavor: str, gpus: int, cpus: int, memory_bytes: int) -> None:
        """Count capacity that is held as about to be left: limits still see it, shares don't."""
        self.add(flavor, -gpus, -cpus, -memory_bytes)
        self.leaving[flavor] = self.leaving.get(flavor, 0) + gpus

    def holds(self, flavor: str) -> int:
        """Return the GPUs of `flavor` that nobody else can have now."""
        return self.used.get(flavor, 0) + self.leaving.get(flavor, 0)

    def share(self) -> float:
        """Return the weighted dominant share; 0 within the nominal quota."""
        if self._share is None:
            self._share = self._weigh(self._over_gpus, self.cpus, self.memory_bytes)
        return self._share

    def share_with(self, flavor: str, gpus: int, cpus: int, memory_bytes: int) -> float:
        """Return what the share would be with so much more held, or with less."""
        before, nominal = self.used.get(flavor, 0), self.quota(flavor).nominal
        over = self._over_gpus + max(0, before + gpus - nominal) - max(0, before - nominal)
        return self._weigh(over, self.cpus + cpus, self.memory_bytes + memory_bytes)

    def nominal_gpus_free(self, flavor: str) -> int:
        """Return how much of the nominal quota is not in use."""
        return self.quota(flavor).nominal - self.used.get(flavor, 0)

    def _weigh(self, over_gpus: int, cpus: int, memory_bytes: int) -> float:
        totals = self._totals
        share = over_gpus / totals.gpus if totals.gpus else 0.0
        if totals.cpus:
            share = max(share, (cpus - self._nominal_cpus) / totals.cpus)
        if totals.memory_bytes:
            share = max(share, (memory_bytes - self._nominal_memory) / totals.memory_bytes)
        if self.weight > 0:
            return share / self.weight
        return math.inf if share > 0 else 0.0


class Standings:
    """All projects of a round, those included that only jobs name."""

    def __init__(
        self,
        pool: Pool,
        projects: Iterable[Project],
        running: Iterable[Allocation],
        policy: Policy,
    ) -> None:
        self.totals = Totals(pool)
        self._policy = policy
        self._by_name: dict[str, Standing] = {}
        self._reserving: set[str] = set()
        for project in sorted(projects, key=lambda project: project.name):
            standing = self._by_name[project.name] = Standing(project, self.totals)
            standing.recent = self._recent(project)
            self._reserving |= {quota.flavor for quota in project.quotas if quota.lending_limit is not None}
        self._count(pool, running)

    def of(self, name: str) -> Standing:
        """Return a project's standing; one that the snapshot doesn't have gets weight 1 and no quota."""
        standing = self._by_name.get(name)
        if standing is None:
            standing = self._by_name[name] = Standing(Project(name), self.totals)
        return standing

    def all(self) -> Iterable[Standing]:
        """Return every project's standing."""
        return self._by_name.values()

    def score(self, standing: Standing) -> float:
        """Return what projects are ordered by, lowest first: the present share blended with late use."""
        return self.blend(standing.share(), standing.recent, standing.weight)

    def blend(self, share: float, recent: float, project_weight: float) -> float:
        """Blend a weighted share with late use, which is not weighted yet."""
        if project_weight <= 0:
            return math.inf
        weight = self._policy.usage_weight
        return (1 - weight) * share + weight * recent / project_weight

    def entry_penalty(self, gpus: int, cpus: int, ran_seconds: float = 0.0) -> float:
        """Return the use that a job which has run for so long is charged with in advance."""
        seconds = max(0.0, self._policy.entry_penalty_seconds - ran_seconds)
        return max(self._part(seconds * gpus, self.totals.gpus), self._part(seconds * cpus, self.totals.cpus))

    def quota_room(self, standing: Standing, flavor: str) -> float:
        """Return how many GPUs more of `flavor` the project may hold now, by its own and others' limits.

        Idle nominal quota is lent up to its owner's lending limit; what is beyond stays empty for it.
        """
        own = self._own_room(standing, flavor)
        if flavor not in self._reserving:
            return own
        idle, unlent = self._idle(standing, flavor)
        return min(own, max(idle - unlent, standing.quota(flavor).nominal - standing.holds(flavor)))

    def lacks_room_only(self, standing: Standing, flavor: str, gpus: int) -> bool:
        """Whether a project that may not hold so many GPUs more now may do so when running jobs end.

        Where fewer are idle at all than it needs, what others don't lend says nothing yet.
        """
        if gpus > self._own_room(standing, flavor) or gpus <= self._idle(standing, flavor)[0]:
            return False
        quotas = (other.quota(flavor) for other in self._by_name.values() if other is not standing)
        kept = sum(max(0, q.nominal - q.lending_limit) for q in quotas if q.lending_limit is not None)
        total = self.totals.flavors.get(flavor, (0, 0, 0))[0]
        return gpus <= max(total - kept, standing.quota(flavor).nominal)

    def _own_room(self, standing: Standing, flavor: str) -> float:
        quota = standing.quota(flavor)
        if quota.borrowing_limit is None:
            return math.inf
        return quota.nominal + quota.borrowing_limit - standing.holds(flavor)

    def _idle(self, standing: Standing, flavor: str) -> tuple[int, int]:
        """Return the GPUs of `flavor` that nobody holds, and how many of them others don't lend."""
        unlent = in_use = 0
        for other in self._by_name.values():
            held = other.holds(flavor)
            in_use += held
            quota = other.quota(flavor)
            if other is not standing and quota.lending_limit is not None:
                unlent += max(0, max(0, quota.nominal - quota.lending_limit) - held)
        return self.totals.flavors.get(flavor, (0, 0, 0))[0] - in_use, unlent

    def _recent(self, project: Project) -> float:
        return max(
            self._part(project.decayed_gpu_seconds, self.totals.gpus),
            self._part(project.decayed_cpu_seconds, self.totals.cpus),
        )

    def _part(self, seconds: float, capacity: int) -> float:
        """Turn decayed use into the average part of the pool that it comes from.

        Who always holds the part s has a decayed use of s x capacity x half-life / ln 2.
        """
        if not capacity:
            return 0.0
        return seconds * math.log(2) / (self._policy.usage_half_life_seconds * capacity)

    def _count(self, pool: Pool, running: Iterable[Allocation]) -> None:
        held: dict[tuple[str, str, bool], list[int]] = {}
        for allocation in running:
            cpus = gpus = 0
            for share in allocation.placements:
                key = allocation.project, pool.flavor_of(share.node), allocation.stopping
                amounts = held.setdefault(key, [0, 0, 0])
                amounts[0] += share.gpus
                amounts[1] += share.cpus
                amounts[2] += share.memory_bytes
                gpus += share.gpus
                cpus += share.cpus
            ran = pool.now_seconds - allocation.started_seconds
            if ran < self._policy.entry_penalty_seconds:
                self.of(allocation.project).recent += self.entry_penalty(gpus, cpus, ran)
        for (project, flavor, stopping), (gpus, cpus, memory) in held.items():
            standing = self.of(project)
            standing.add(flavor, gpus, cpus, memory)
            if stopping:
                standing.leave(flavor, gpus, cpus, memory)
