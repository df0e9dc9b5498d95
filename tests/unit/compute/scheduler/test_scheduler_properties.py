"""Properties that every round has, over random pools, quotas, running and queued jobs."""

import random
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.compute.scheduler.pools import GB, NOW, check, granted, node, scene, take, usage

from steelyard.compute.scheduler import (
    Allocation,
    Flavor,
    Node,
    NodeShare,
    Policy,
    PreemptionRule,
    Project,
    QueuedJob,
    Quota,
    Snapshot,
    SpotPolicy,
    decide,
)

FLAVORS = ("a100", "h100")
PROJECTS = ("ann", "bob", "cy")
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def pools(draw: st.DrawFn) -> tuple[Node, ...]:
    count = draw(st.integers(1, 4))
    return tuple(
        node(
            f"n{i}",
            draw(st.sampled_from((0, 2, 4, 8))),
            cpus=draw(st.sampled_from((8, 16))),
            flavor=draw(st.sampled_from(FLAVORS)),
            spot=draw(st.booleans()),
            up=draw(st.integers(0, 9)) > 0,
        )
        for i in range(count)
    )


@st.composite
def tenants(draw: st.DrawFn) -> tuple[Project, ...]:
    limits = st.one_of(st.none(), st.integers(0, 8))
    return tuple(
        Project(
            name,
            draw(st.sampled_from((1.0, 2.0, 0.0))),
            tuple(
                Quota(flavor, draw(st.integers(0, 8)), draw(limits), draw(limits))
                for flavor in FLAVORS
                if draw(st.booleans())
            ),
            draw(st.floats(0, 1e6)),
        )
        for name in PROJECTS
        if draw(st.booleans())
    )


@st.composite
def jobs(draw: st.DrawFn, number: int) -> QueuedJob:
    return QueuedJob(
        f"q{number}",
        draw(st.sampled_from(PROJECTS)),
        NOW - draw(st.integers(0, 5)) * 40_000.0,
        cpus=draw(st.sampled_from((1, 4))),
        memory_bytes=draw(st.sampled_from((1, 16))) * GB,
        gpus=draw(st.sampled_from((0, 1, 2, 4, 8))),
        nodes=draw(st.sampled_from((1, 1, 2))),
        priority=draw(st.sampled_from((0, 500, 900))),
        flavors=draw(st.sampled_from(((), ("h100",), ("h100", "a100")))),
        spot=draw(st.sampled_from(SpotPolicy)),
        max_price_per_gpu_hour=draw(st.sampled_from((None, 1.5))),
        retries_left=draw(st.integers(0, 1)),
        max_runtime_seconds=draw(st.sampled_from((None, 3600.0, 90_000.0))),
        ran_seconds=draw(st.sampled_from((0.0, 0.0, 20_000.0))),
    )


@st.composite
def snapshots(draw: st.DrawFn, most_queued: int = 12) -> Snapshot:
    nodes = {one.name: one for one in draw(pools())}
    running: list[Allocation] = []
    for number in range(draw(st.integers(0, 10))):
        place = nodes[draw(st.sampled_from(sorted(nodes)))]
        gpus = draw(st.integers(0, len(place.free_gpu_ids)))
        cpus = draw(st.integers(1, 4))
        if place.free_cpus < cpus:
            continue
        share = NodeShare(place.name, cpus, cpus * GB, gpus)
        nodes[place.name] = take(place, share)
        running.append(
            Allocation(
                f"r{number}",
                draw(st.sampled_from(PROJECTS)),
                (share,),
                NOW - draw(st.sampled_from((10.0, 5000.0, 90_000.0))),
                draw(st.sampled_from((0, 500, 900))),
                draw(st.integers(0, 3)),
                draw(st.integers(0, 5)) > 0,
                draw(st.integers(0, 5)) == 0,
                draw(st.sampled_from((None, 100_000.0))),
            )
        )
    queued = [draw(jobs(number)) for number in range(draw(st.integers(1, most_queued)))]
    policy = Policy(
        preemption=draw(st.sampled_from((frozenset(PreemptionRule), Policy().preemption, frozenset()))),
        patience_seconds=draw(st.sampled_from((0.0, 1e6))),
    )
    return Snapshot(
        NOW,
        tuple(nodes.values()),
        tuple(queued),
        tuple(running),
        draw(tenants()),
        (Flavor("a100", 1.0), Flavor("h100", 2.0)),
        policy,
    )


@quick
@given(snapshots())
def test_a_round_breaks_no_rule(snapshot: Snapshot) -> None:
    check(snapshot, decide(snapshot))


@quick
@given(snapshots(), st.randoms(use_true_random=False))
def test_order_of_the_snapshot_means_nothing(snapshot: Snapshot, rng: random.Random) -> None:
    def mixed(items: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(rng.sample(items, len(items)))

    other = replace(
        snapshot,
        nodes=mixed(snapshot.nodes),
        queued=mixed(tuple(snapshot.queued)),
        running=mixed(snapshot.running),
        projects=mixed(snapshot.projects),
        flavors=mixed(snapshot.flavors),
    )
    first, second = decide(snapshot), decide(other)
    assert first == second
    assert first.waiting == second.waiting


@quick
@given(snapshots())
def test_among_equals_priority_then_arrival_decides(snapshot: Snapshot) -> None:
    started = set(granted(decide(snapshot)))
    queued = list(snapshot.queued)
    for first in queued:
        for second in queued:
            alike = replace(
                second, id=first.id, priority=first.priority, submitted_seconds=first.submitted_seconds
            )  # so both have had their turn, or neither
            due_first = (-first.priority, first.submitted_seconds, first.id) < (
                -second.priority,
                second.submitted_seconds,
                second.id,
            )
            older = first.submitted_seconds <= second.submitted_seconds
            if alike == first and due_first and older and second.id in started:
                assert first.id in started


@quick
@given(snapshots(most_queued=1))
def test_every_victim_is_needed_and_together_they_suffice(snapshot: Snapshot) -> None:
    decisions = decide(snapshot)
    if not decisions.preemptions:
        return
    (wanted,) = snapshot.queued
    victims = {preemption.job_id for preemption in decisions.preemptions}
    assert granted(decide(_without(snapshot, victims))) == [wanted.id]
    for spared in victims:
        assert granted(decide(_without(snapshot, victims - {spared}))) == []


@quick
@given(snapshots())
def test_reclaim_takes_from_borrowers_for_the_guaranteed_only(snapshot: Snapshot) -> None:
    decisions = decide(snapshot)
    used = usage(replace(snapshot, running=tuple(a for a in snapshot.running if not a.stopping)))
    quotas = {(p.name, q.flavor): q.nominal for p in snapshot.projects for q in p.quotas}
    flavors = {one.name: one.flavor for one in snapshot.nodes}
    running = {allocation.job_id: allocation for allocation in snapshot.running}
    queued = {job.id: job for job in snapshot.queued}
    places = {nomination.job_id: nomination.nodes for nomination in decisions.nominations}
    for preemption in decisions.preemptions:
        if preemption.reason is not PreemptionRule.RECLAIM:
            continue
        wanted, victim = queued[preemption.for_job], running[preemption.job_id]
        flavor = flavors[places[wanted.id][0]]
        asked = wanted.gpus * wanted.nodes
        assert used[wanted.project, flavor] + asked <= quotas[wanted.project, flavor]
        assert used[victim.project, flavor] > quotas.get((victim.project, flavor), 0)


def _without(snapshot: Snapshot, gone: set[str]) -> Snapshot:
    """The snapshot when `gone` and all that were stopping have left."""
    running = [a for a in snapshot.running if a.job_id not in gone and not a.stopping]
    empty = [
        replace(
            one,
            free_cpus=one.cpus,
            free_memory_bytes=one.memory_bytes,
            free_gpu_ids=one.gpu_ids,
        )
        for one in snapshot.nodes
    ]
    policy = replace(snapshot.policy, preemption=frozenset[PreemptionRule]())
    left = scene(empty, snapshot.queued, running, snapshot.projects, policy)
    return replace(left, flavors=snapshot.flavors)
