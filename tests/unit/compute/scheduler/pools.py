"""Small pools and jobs for the scheduler's tests, and what must be true of every round."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from steelyard.compute.scheduler import (
    Allocation,
    Decisions,
    Node,
    NodeShare,
    Policy,
    PreemptionRule,
    Project,
    QueuedJob,
    Quota,
    Snapshot,
    SpotPolicy,
)
from steelyard.compute.scheduler.priorities import had_its_turn, waited_seconds

GB = 10**9
NOW = 1_000_000.0
EAGER = Policy(
    min_runtime_seconds=0.0,
    eviction_cap=10**6,
    preemption=frozenset(PreemptionRule),
    turn_wait_seconds=0.0,
)
"""Every preemption allowed at once and without end: what stops is stopped by the rules themselves."""


def node(
    name: str, gpus: int = 8, *, cpus: int = 64, flavor: str = "a100", spot: bool = False, up: bool = True
) -> Node:
    """An empty node with 4 GB of memory to a CPU."""
    ids = tuple(f"{name}/{k}" for k in range(gpus))
    return Node(name, flavor, cpus, 4 * cpus * GB, cpus, 4 * cpus * GB, ids, ids, spot, up)


def job(
    name: str,
    project: str = "p",
    *,
    gpus: int = 1,
    nodes: int = 1,
    at: float = 0.0,
    priority: int = 500,
    cpus: int = 1,
    ran: float = 0.0,
) -> QueuedJob:
    """A queued job that came `at` seconds after `NOW`, with no limit on its time."""
    return QueuedJob(name, project, NOW + at, cpus, cpus * GB, gpus, nodes, priority, ran_seconds=ran)


def run(
    name: str,
    project: str,
    *places: tuple[str, int],
    ago: float = 3600.0,
    priority: int = 500,
    evictions: int = 0,
    ran: float = 0.0,
) -> Allocation:
    """A job that started `ago` seconds before `NOW`, had run for `ran` before that, and holds so many GPUs on
    each named node."""
    shares = tuple(NodeShare(name, gpus, gpus * GB, gpus) for name, gpus in places)
    return Allocation(name, project, shares, NOW - ago, priority, evictions, ran_seconds=ran)


def quota(project: str, nominal: int, borrow: int | None = None, lend: int | None = None) -> Project:
    """A project with a quota in the flavor `a100`."""
    return Project(project, quotas=(Quota("a100", nominal, borrow, lend),))


def scene(
    nodes: Iterable[Node],
    queued: Iterable[QueuedJob] = (),
    running: Iterable[Allocation] = (),
    projects: Iterable[Project] = (),
    policy: Policy | None = None,
) -> Snapshot:
    """A snapshot at `NOW` in which the running jobs have taken their parts of the nodes."""
    held = {one.name: one for one in nodes}
    for allocation in running:
        for share in allocation.placements:
            held[share.node] = take(held[share.node], share)
    return Snapshot(
        NOW,
        tuple(held.values()),
        tuple(queued),
        tuple(running),
        tuple(projects),
        policy=policy or Policy(),
    )


def take(free: Node, share: NodeShare) -> Node:
    """A node after `share` was given away."""
    return replace(
        free,
        free_cpus=free.free_cpus - share.cpus,
        free_memory_bytes=free.free_memory_bytes - share.memory_bytes,
        free_gpu_ids=free.free_gpu_ids[share.gpus :],
    )


def granted(decisions: Decisions) -> list[str]:
    """The ids of the granted jobs, in order."""
    return [grant.job_id for grant in decisions.grants]


def preempted(decisions: Decisions) -> list[str]:
    """The ids of the victims."""
    return [preemption.job_id for preemption in decisions.preemptions]


def check(snapshot: Snapshot, decisions: Decisions) -> None:
    """Assert what must hold of any round."""
    _check_nodes(snapshot, decisions)
    _check_gangs(snapshot, decisions)
    _check_quotas(snapshot, decisions)
    _check_victims(snapshot, decisions)
    _check_reasons(snapshot, decisions)


def _check_nodes(snapshot: Snapshot, decisions: Decisions) -> None:
    free = {one.name: one for one in snapshot.nodes}
    for grant in decisions.grants:
        for placed in grant.placements:
            before = free[placed.node]
            assert set(placed.gpu_ids) <= set(before.free_gpu_ids)
            assert len(set(placed.gpu_ids)) == len(placed.gpu_ids)
            after = replace(
                before,
                free_cpus=before.free_cpus - placed.cpus,
                free_memory_bytes=before.free_memory_bytes - placed.memory_bytes,
                free_gpu_ids=tuple(g for g in before.free_gpu_ids if g not in placed.gpu_ids),
            )
            assert after.free_cpus >= 0
            assert after.free_memory_bytes >= 0
            free[placed.node] = after


def _check_gangs(snapshot: Snapshot, decisions: Decisions) -> None:
    jobs = {queued.id: queued for queued in snapshot.queued}
    nodes = {one.name: one for one in snapshot.nodes}
    prices = {flavor.name: flavor.price_per_gpu_hour for flavor in snapshot.flavors}
    assert len(set(granted(decisions))) == len(decisions.grants)
    for grant in decisions.grants:
        wanted = jobs[grant.job_id]
        places = [nodes[placed.node] for placed in grant.placements]
        assert len({place.name for place in places}) == wanted.nodes == len(places)
        assert len({(place.flavor, place.spot) for place in places}) == 1
        assert places[0].flavor == grant.flavor
        assert all(place.up for place in places)
        for placed in grant.placements:
            assert (placed.cpus, placed.memory_bytes, len(placed.gpu_ids)) == (
                wanted.cpus,
                wanted.memory_bytes,
                wanted.gpus,
            )
        assert not wanted.flavors or grant.flavor in wanted.flavors
        assert not (places[0].spot and wanted.spot is SpotPolicy.NEVER)
        assert places[0].spot or wanted.spot is not SpotPolicy.ONLY
        if wanted.max_price_per_gpu_hour is not None and wanted.gpus:
            assert prices.get(grant.flavor, 0.0) <= wanted.max_price_per_gpu_hour


def _check_quotas(snapshot: Snapshot, decisions: Decisions) -> None:
    jobs = {queued.id: queued for queued in snapshot.queued}
    used = usage(snapshot)
    gained: Counter[tuple[str, str]] = Counter()
    for grant in decisions.grants:
        asked = jobs[grant.job_id]
        gained[asked.project, grant.flavor] += asked.gpus * asked.nodes
    totals: Counter[str] = Counter()
    for one in snapshot.nodes:
        totals[one.flavor] += len(one.gpu_ids) if one.up else 0
    quotas = {(p.name, q.flavor): q for p in snapshot.projects for q in p.quotas}
    after = used + gained
    for (project, flavor), more in gained.items():
        own = quotas.get((project, flavor), Quota(flavor))
        if more and own.borrowing_limit is not None:
            assert after[project, flavor] <= own.nominal + own.borrowing_limit
        if more and after[project, flavor] > own.nominal:
            unlent = sum(
                max(0, other.nominal - other.lending_limit - after[name, flavor])
                for (name, of), other in quotas.items()
                if of == flavor and name != project and other.lending_limit is not None
            )
            in_use = sum(count for (_, of), count in after.items() if of == flavor)
            assert unlent == 0 or in_use + unlent <= totals[flavor]


def _check_victims(snapshot: Snapshot, decisions: Decisions) -> None:
    running = {allocation.job_id: allocation for allocation in snapshot.running}
    jobs = {queued.id: queued for queued in snapshot.queued}
    nominated = {nomination.job_id for nomination in decisions.nominations}
    policy = snapshot.policy
    assert len(set(preempted(decisions))) == len(decisions.preemptions)
    assert not nominated & set(granted(decisions))
    for preemption in decisions.preemptions:
        victim, wanted = running[preemption.job_id], jobs[preemption.for_job]
        assert wanted.id in nominated
        assert victim.preemptible
        assert not victim.stopping
        assert snapshot.now_seconds - victim.started_seconds >= policy.min_runtime_seconds
        assert victim.evictions < policy.eviction_cap
        assert preemption.reason in policy.preemption
        if preemption.reason is PreemptionRule.PRIORITY:
            assert victim.project == wanted.project
            assert victim.priority + policy.priority_margin <= wanted.priority
        elif preemption.reason in (PreemptionRule.TURN, PreemptionRule.LENT_TURN):
            if preemption.reason is PreemptionRule.TURN:
                assert victim.project == wanted.project
                assert victim.priority <= wanted.priority
            else:
                assert victim.project != wanted.project
            assert waited_seconds(wanted, snapshot.now_seconds) >= policy.turn_wait_seconds
            fresh = not had_its_turn(wanted.ran_seconds, wanted.gpus * wanted.nodes, policy)
            assert fresh or waited_seconds(wanted, snapshot.now_seconds) >= policy.patience_seconds
            ran, held = snapshot.now_seconds - victim.started_seconds, victim.placements
            assert had_its_turn(ran, sum(share.gpus for share in held), policy, victim.evictions)
        else:
            assert victim.project != wanted.project


def _check_reasons(snapshot: Snapshot, decisions: Decisions) -> None:
    waiting = {queued.id for queued in snapshot.queued} - set(granted(decisions))
    assert sorted(reason.job_id for reason in decisions.waiting) == sorted(waiting)
    assert [reason.position for reason in decisions.waiting] == list(range(1, len(waiting) + 1))
    for reason in decisions.waiting:
        assert "{" not in reason.sentence


def usage(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """GPUs held by project and flavor, stopping jobs included."""
    flavors = {one.name: one.flavor for one in snapshot.nodes}
    used: Counter[tuple[str, str]] = Counter()
    for allocation in snapshot.running:
        for share in allocation.placements:
            used[allocation.project, flavors[share.node]] += share.gpus
    return used
