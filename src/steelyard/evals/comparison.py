"""Two models side by side, metric by metric, on the samples that both saw. Pure."""

from dataclasses import dataclass

import numpy as np

from steelyard.evals.comparing import Pairs
from steelyard.evals.evidence import MetricEvidence
from steelyard.evals.statistics import (
    Floats,
    mcnemar,
    paired_bootstrap,
    paired_proportions_interval,
    paired_proportions_sd,
    smallest_effect_paired,
)
from steelyard.specs.comparisons import MetricComparison

_LEVEL = 0.05


def compare_metric(
    metric: str, a: MetricEvidence | None, b: MetricEvidence | None, pairs: Pairs | None
) -> MetricComparison:
    """Compare one metric of A and B.

    Args:
        pairs: values of the common samples, B's as `model` and A's as `incumbent`.
    """
    fault = _why_not(a, b, pairs)
    either = b or a
    if a is None or b is None or pairs is None or fault is not None:
        return MetricComparison(
            metric=metric,
            a=a.mean if a else None,
            b=b.mean if b else None,
            n=0,
            higher_is_better=either.higher_is_better if either else True,
            verdict="not comparable",
            message=fault or "",
        )
    return _compare(metric, a, b, pairs)


def _why_not(a: MetricEvidence | None, b: MetricEvidence | None, pairs: Pairs | None) -> str | None:
    if a is None or b is None:
        return "only one of the two was measured"
    if a.suite_digest != b.suite_digest:
        return "the suite's content is not the same"
    if a.settings_digest != b.settings_digest:
        return "the settings are not the same"
    if a.samples is None or b.samples is None:
        return "the metric has no value for a single sample"
    if pairs is None or len(pairs.model) < 2:
        return "they have fewer than two samples in common"
    return None


def _compare(metric: str, a: MetricEvidence, b: MetricEvidence, pairs: Pairs) -> MetricComparison:
    n = len(pairs.model)
    found = _of_shares(pairs) if a.proportion and b.proportion else _of_means(pairs)
    better = found.difference > 0.0 if b.higher_is_better else found.difference < 0.0
    return MetricComparison(
        metric=metric,
        a=a.mean,
        b=b.mean,
        n=n,
        difference=found.difference,
        interval=found.interval,
        p_value=found.p_value,
        test=found.test,
        smallest_effect=smallest_effect_paired(found.sd, n),
        higher_is_better=b.higher_is_better,
        verdict=("better" if better else "worse") if found.p_value < _LEVEL else "no difference shown",
    )


@dataclass(frozen=True)
class _Found:
    difference: float
    interval: tuple[float, float]
    p_value: float
    test: str
    sd: float
    """Of the differences."""


def _of_shares(pairs: Pairs) -> _Found:
    lost = int(((pairs.incumbent > 0.5) & (pairs.model <= 0.5)).sum())
    gained = int(((pairs.incumbent <= 0.5) & (pairs.model > 0.5)).sum())
    n = len(pairs.model)
    found = mcnemar(lost, gained)
    return _Found(
        (gained - lost) / n,
        paired_proportions_interval(gained, lost, n),
        found.p_value,
        "mcnemar exact" if found.exact else "mcnemar",
        paired_proportions_sd(gained, lost, n),
    )


def _of_means(pairs: Pairs) -> _Found:
    weights = pairs.model_weights
    found = paired_bootstrap(pairs.incumbent, pairs.model, weights)
    sd = _deviation(pairs.model - pairs.incumbent, weights)
    return _Found(found.value, found.interval, found.p_value, "paired bootstrap", sd)


def _deviation(differences: Floats, weights: Floats | None) -> float:
    if weights is None:
        return float(np.std(differences, ddof=1))
    # As if samples weighed alike: the spread of what each adds to the weighted mean.
    centre = float(np.average(differences, weights=weights))
    return float(np.std(weights * (differences - centre) / weights.mean(), ddof=1))
