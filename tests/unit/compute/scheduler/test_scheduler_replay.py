"""The benchmark's simulator: figures that must come out whatever the machine."""

from bench.scheduler import Figures, measure, policies
from bench.traces import TraceJob, alone_seconds, synthesize

GPUS = 96


def replay(jobs: list[TraceJob]) -> dict[str, Figures]:
    alone = alone_seconds(jobs, GPUS)
    return {
        name: measure(name, jobs, GPUS, 2.0, make(), alone) for name, make in policies(jobs, GPUS).items()
    }


def test_ours_is_the_fairest_on_a_small_synthetic_trace() -> None:
    figures = replay(synthesize(days=2.0, seed=3, jobs=900))
    ours = figures.pop("steelyard")
    best = min(figures.values(), key=lambda other: other.rho_max)
    assert ours.rho_max <= best.rho_max
    assert ours.jain >= best.jain
    assert ours.jct_mean <= best.jct_mean * 1.05
    assert ours.evictions_max <= 3


def test_without_contention_nobody_waits_longer_than_a_round() -> None:
    jobs = [TraceJob(f"j{i}", "t", i * 1000.0, 500.0, 8, 500) for i in range(20)]
    for figures in replay(jobs).values():
        assert figures.wait_p99 <= 60.0
        assert figures.rho_max <= 2.0
        assert figures.evictions_per_job == 0
        assert abs(figures.allocation - 20 * 500 * 8 / (GPUS * 19_000)) < 0.02


def test_a_tenant_alone_is_served_in_order_on_its_part() -> None:
    jobs = [TraceJob("a", "t", 0.0, 100.0, 2, 500), TraceJob("b", "t", 0.0, 50.0, 4, 500)]
    assert alone_seconds(jobs, 2) == {"a": 100.0, "b": 200.0}
