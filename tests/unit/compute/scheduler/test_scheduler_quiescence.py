"""Round after round until nothing moves: no ping-pong, no starvation."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.compute.scheduler.pools import EAGER, GB, NOW, node
from tests.unit.compute.scheduler.world import World

from steelyard.compute.scheduler import Policy, PreemptionRule, Project, QueuedJob, Quota

PROJECTS = ("ann", "bob", "cy")
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def crowds(draw: st.DrawFn) -> tuple[tuple[Project, ...], tuple[QueuedJob, ...]]:
    projects = tuple(
        Project(
            name,
            draw(st.sampled_from((1.0, 3.0))),
            (
                Quota(
                    "a100",
                    draw(st.integers(0, 5)),
                    draw(st.one_of(st.none(), st.integers(0, 10))),
                    draw(st.one_of(st.none(), st.integers(0, 5))),
                ),
            ),
        )
        for name in PROJECTS
    )
    jobs = tuple(
        QueuedJob(
            f"j{number:02}",
            draw(st.sampled_from(PROJECTS)),
            NOW + draw(st.integers(0, 30)) * 60.0,
            cpus=1,
            memory_bytes=GB,
            gpus=draw(st.sampled_from((1, 1, 2, 4, 8))),
            nodes=draw(st.sampled_from((1, 1, 1, 2))),
            priority=draw(st.sampled_from((100, 500, 900))),
            max_runtime_seconds=draw(st.sampled_from((None, 7200.0))),
        )
        for number in range(draw(st.integers(2, 14)))
    )
    return projects, jobs


@quick
@given(crowds())
def test_jobs_without_end_come_to_rest_with_no_cap_on_evictions(
    crowd: tuple[tuple[Project, ...], tuple[QueuedJob, ...]],
) -> None:
    projects, jobs = crowd
    world = World((node("n0"), node("n1")), projects, jobs, EAGER, {}, NOW)
    still = 0
    for _ in range(60 + 20 * len(jobs)):
        decisions = world.step()
        moved = decisions.grants or decisions.preemptions or decisions.nominations or world.coming
        still = 0 if moved else still + 1
        if still == 3:
            break
    assert still == 3, "grants and preemptions go on without end"
    for victim, preemptor in world.made_for:
        assert (preemptor, victim) not in world.made_for, "a preemption was undone"


@quick
@given(crowds(), st.booleans())
def test_every_job_that_can_run_ends(
    crowd: tuple[tuple[Project, ...], tuple[QueuedJob, ...]], every_rule: bool
) -> None:
    projects, jobs = crowd
    rules = frozenset(PreemptionRule) if every_rule else Policy().preemption
    policy = Policy(min_runtime_seconds=300.0, eviction_cap=2, preemption=rules)
    lengths = {job.id: 600.0 + 60.0 * (index % 7) for index, job in enumerate(jobs)}
    world = World((node("n0"), node("n1")), projects, jobs, policy, lengths, NOW)
    for _ in range(100 * len(jobs) + 100):
        world.step()
        if len(world.done) + len(world.unschedulable) == len(jobs) and not world.running:
            break
    assert world.done | world.unschedulable == {job.id for job in jobs}
    for job_id in world.unschedulable - world.done:
        assert _beyond_limits(world.jobs[job_id], projects)
    assert max(world.evictions.values(), default=0) <= policy.eviction_cap


def test_a_wide_gang_starts_in_spite_of_a_stream_of_small_jobs() -> None:
    small = [
        QueuedJob(f"s{i:03}", "bob", NOW + i * 60.0, gpus=1, priority=500, max_runtime_seconds=1200.0)
        for i in range(400)
    ]
    wide = QueuedJob("wide", "ann", NOW + 1800.0, gpus=8, nodes=2, max_runtime_seconds=1200.0)
    lengths = {job.id: 1200.0 for job in (*small, wide)}
    world = World((node("n0"), node("n1")), (), (*small, wide), Policy(), lengths, NOW)
    for _ in range(120):
        world.step()
    assert "wide" in world.done


def test_a_low_priority_job_is_not_passed_for_ever() -> None:
    urgent = [QueuedJob(f"u{i:03}", "p", NOW + i * 600.0, gpus=8, priority=900) for i in range(300)]
    low = QueuedJob("low", "p", NOW, gpus=8, priority=100)
    lengths = {job.id: 660.0 for job in (*urgent, low)}
    policy = Policy(ageing_grace_seconds=3600.0, ageing_points_per_hour=100.0, preemption=frozenset())
    world = World((node("n0"),), (), (*urgent, low), policy, lengths, NOW)
    for _ in range(1000):
        world.step()
    assert "low" in world.done


def test_a_job_that_has_had_its_turn_is_not_passed_for_ever_by_fresh_ones() -> None:
    fresh = [QueuedJob(f"f{i:03}", "p", NOW + 3000.0 + i * 600.0, gpus=8) for i in range(400)]
    long = QueuedJob("long", "p", NOW, gpus=8)
    lengths = {job.id: 660.0 for job in fresh} | {"long": 6 * 3600.0}
    policy = Policy(ageing_grace_seconds=3 * 3600.0, patience_seconds=6 * 3600.0)
    world = World((node("n0"),), (), (*fresh, long), policy, lengths, NOW)
    for _ in range(2000):
        world.step()
        if "long" in world.done:
            break
    assert "long" in world.done
    assert 1 <= world.evictions["long"] <= policy.eviction_cap
    assert len(world.done) < 100, "it ended long before the last of those that came later"


def _beyond_limits(job: QueuedJob, projects: tuple[Project, ...]) -> bool:
    own = next(project for project in projects if project.name == job.project).quotas[0]
    others = [project.quotas[0] for project in projects if project.name != job.project]
    kept = sum(max(0, q.nominal - q.lending_limit) for q in others if q.lending_limit is not None)
    need, limit = job.gpus * job.nodes, own.borrowing_limit
    return need > max(16 - kept, own.nominal) or (limit is not None and need > own.nominal + limit)
