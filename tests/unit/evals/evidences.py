"""Evidence for tests of gates."""

import math

import numpy as np

from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import Evidence, MetricEvidence

SUITE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def proportion(
    metric: str, hits: int, n: int, *, suite: str = SUITE, settings: str = SUITE
) -> MetricEvidence:
    share = hits / n
    return MetricEvidence(
        metric=metric, mean=share, standard_error=math.sqrt(share * (1 - share) / n), n=n,
        interval=(0.0, 1.0), higher_is_better=True, suite_digest=suite, settings_digest=settings,
        samples_digest=SUITE, samples=None, proportion=True,
    )  # fmt: skip


def mean(
    metric: str, value: float, error: float = 0.1, n: int = 100, *, higher_is_better: bool = False
) -> MetricEvidence:
    return MetricEvidence(
        metric=metric, mean=value, standard_error=error, n=n, interval=(value, value),
        higher_is_better=higher_is_better, suite_digest=SUITE, settings_digest=SUITE, samples_digest=SUITE,
        samples=None,
    )  # fmt: skip


def of(*metrics: MetricEvidence) -> Evidence:
    """By hand: real evidence can't hold a NaN, and gates must not rely on that."""
    digest = "sha256:" + "c" * 64
    return Evidence(model_digest=digest, metrics={each.metric: each for each in metrics}, digest=digest)


def pairs(model: list[float], incumbent: list[float]) -> Pairs:
    return Pairs(np.asarray(model, np.float64), np.asarray(incumbent, np.float64))
