"""One figure of two models, compared: over the same samples where their values are there. Pure."""

import math
from dataclasses import dataclass

import numpy as np

from steelyard.evals.evidence import MetricEvidence
from steelyard.evals.statistics import (
    Floats,
    Mean,
    paired_difference,
    paired_proportions_lower_limit,
    paired_proportions_sd,
    t_lower_limit,
    unpaired_lower_limit,
    unpaired_proportions_lower_limit,
)


@dataclass(frozen=True)
class Pairs:
    """Values of the samples that two models have in common, in one order; shape (n,) each."""

    model: Floats
    incumbent: Floats
    model_weights: Floats | None = None
    incumbent_weights: Floats | None = None


@dataclass(frozen=True)
class Compared:
    """By how much a model is better; below zero where it is worse."""

    difference: float
    lower_limit: float
    """One-sided."""
    standard_error: float
    n: int
    how: str
    """`paired` or `unpaired`."""
    method: str


def compare(
    model: MetricEvidence, incumbent: MetricEvidence, pairs: Pairs | None, confidence: float
) -> Compared | None:
    """Compare two figures of the same suite and settings; None where there are no errors to do it by."""
    sign = 1.0 if model.higher_is_better else -1.0
    if pairs is not None and len(pairs.model) >= 2:
        if not _usable(pairs):
            return None
        if model.proportion:
            return _pair_proportions(pairs, model.higher_is_better, confidence)
        return _pair_means(pairs, sign, confidence)
    if model.proportion:
        return _set_proportions_apart(model, incumbent, confidence)
    return _set_means_apart(model, incumbent, sign, confidence)


def _usable(pairs: Pairs) -> bool:
    arrays = (pairs.model, pairs.incumbent, pairs.model_weights, pairs.incumbent_weights)
    return all(each is None or bool(np.isfinite(each).all()) for each in arrays)


def _pair_proportions(pairs: Pairs, higher_is_better: bool, confidence: float) -> Compared:
    up = int(((pairs.model > 0.5) & (pairs.incumbent <= 0.5)).sum())
    down = int(((pairs.model <= 0.5) & (pairs.incumbent > 0.5)).sum())
    gained, lost = (up, down) if higher_is_better else (down, up)
    n = len(pairs.model)
    difference = (gained - lost) / n
    limit = paired_proportions_lower_limit(gained, lost, n, confidence)
    error = paired_proportions_sd(gained, lost, n) / math.sqrt(n)
    return Compared(difference, limit, error, n, "paired", "tango")


def _pair_means(pairs: Pairs, sign: float, confidence: float) -> Compared:
    found = paired_difference(pairs.incumbent, pairs.model, pairs.incumbent_weights, pairs.model_weights)
    value, error = sign * found.value, found.standard_error
    return Compared(
        value, t_lower_limit(value, error, found.n, confidence), error, found.n, "paired", "paired t"
    )


def _set_proportions_apart(
    model: MetricEvidence, incumbent: MetricEvidence, confidence: float
) -> Compared | None:
    if model.n < 1 or incumbent.n < 1:
        return None
    shares = [each.mean if model.higher_is_better else 1 - each.mean for each in (model, incumbent)]
    limit = unpaired_proportions_lower_limit(
        round(shares[0] * model.n), model.n, round(shares[1] * incumbent.n), incumbent.n, confidence
    )
    error = math.hypot(model.standard_error, incumbent.standard_error)
    n = min(model.n, incumbent.n)
    return Compared(shares[0] - shares[1], limit, error, n, "unpaired", "agresti-caffo")


def _set_means_apart(
    model: MetricEvidence, incumbent: MetricEvidence, sign: float, confidence: float
) -> Compared | None:
    errors = (model.standard_error, incumbent.standard_error)
    n = min(model.n, incumbent.n)
    if n < 2 or not all(math.isfinite(each) and each > 0.0 for each in errors):
        return None
    new = Mean(sign * model.mean, model.standard_error, model.n)
    old = Mean(sign * incumbent.mean, incumbent.standard_error, incumbent.n)
    limit = unpaired_lower_limit(new, old, confidence)
    return Compared(new.value - old.value, limit, math.hypot(*errors), n, "unpaired", "welch")
