"""Intervals, tests and power. Pure functions of numbers; every random one takes a seed.

A confidence is two-sided for an interval and one-sided for a limit. Only `scipy.special` is used: it loads
in a tenth of the time of `scipy.stats`.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

_ELEMENTS_PER_CHUNK = 1 << 20
_EXACT_BELOW = 25


@dataclass(frozen=True)
class Mean:
    """A mean, its standard error, and of how many samples it is."""

    value: float
    standard_error: float
    n: int


@dataclass(frozen=True)
class Difference:
    """B minus A over the same samples, its interval, and how likely chance alone shows as much."""

    value: float
    interval: tuple[float, float]
    p_value: float
    """Two-sided."""


@dataclass(frozen=True)
class McNemar:
    """Whether two models are right equally often on the same samples. Two-sided."""

    p_value: float
    exact: bool
    statistic: float
    """The smaller discordant count where exact, else chi-square with continuity correction."""


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209; Brown, Cai, DasGupta 2001).

    Raises:
        ValueError: there is no sample.
    """
    _need(n, 1)
    share, z = successes / n, _z(0.5 + confidence / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def t_interval(mean: float, standard_error: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean with n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two samples.
    """
    half = _t(0.5 + confidence / 2, n) * standard_error
    return mean - half, mean + half


def t_lower_limit(mean: float, standard_error: float, n: int, confidence: float) -> float:
    """One-sided lower limit of a mean, Student's t with n - 1 degrees of freedom."""
    return mean - _t(confidence, n) * standard_error


def weighted_mean(values: Sequence[float] | Floats, weights: Sequence[float] | Floats | None = None) -> Mean:
    """Mean with its standard error; with weights a ratio of sums (Cochran, Sampling Techniques, 6.4).

    Raises:
        ValueError: fewer than two samples, or weights that sum to nothing.
    """
    x, w = _arrays(values, weights)
    _need(len(x), 2)
    value = float(np.average(x, weights=w))
    squares = float(np.sum((w * (x - value)) ** 2))
    n = len(x)
    return Mean(value, math.sqrt(n / (n - 1) * squares) / float(w.sum()), n)


def bootstrap_interval(
    values: Sequence[float] | Floats,
    weights: Sequence[float] | Floats | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Literal["bca", "percentile"] = "bca",
) -> tuple[float, float]:
    """Bootstrap interval of a (weighted) mean: samples are drawn, each with its weight.

    BCa after Efron and Tibshirani, An Introduction to the Bootstrap, 14.3, which corrects for bias and
    skew; where all resamples are equal, that value twice.

    Raises:
        ValueError: fewer than two samples.
    """
    x, w = _arrays(values, weights)
    _need(len(x), 2)
    found = _resampled_means(x, w, resamples, seed)
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    if method == "bca" and found.min() < found.max():
        tails = _bca_tails(x, w, found, tails)
    low, high = np.quantile(found, tails)
    return float(low), float(high)


def paired_bootstrap(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    weights: Sequence[float] | Floats | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean of B - A over the same samples, by drawing samples (Koehn 2004; Efron and Tibshirani, 16).

    `p_value` is twice the smaller share of resamples on either side of zero, with one added to count and
    resamples, so that it is never zero (Davison and Hinkley 1997, 4.2).

    Raises:
        ValueError: fewer than two samples, or unlike numbers of them.
    """
    difference = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    x, w = _arrays(difference, weights)
    _need(len(x), 2)
    found = _resampled_means(x, w, resamples, seed)
    interval = bootstrap_interval(x, w, confidence=confidence, resamples=resamples, seed=seed)
    below, above = int((found <= 0).sum()), int((found >= 0).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (resamples + 1))
    return Difference(float(np.average(x, weights=w)), interval, p_value)


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """McNemar's test on the samples that just one of two models has right (McNemar 1947).

    Exact binomial for fewer than 25 of them, else chi-square with Edwards' continuity correction.
    """
    discordant = only_a + only_b
    if discordant < _EXACT_BELOW:
        p_value = (
            min(1.0, 2 * float(special.bdtr(min(only_a, only_b), discordant, 0.5))) if discordant else 1.0
        )
        return McNemar(p_value, True, float(min(only_a, only_b)))
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / discordant
    return McNemar(float(special.chdtrc(1, statistic)), False, statistic)


def paired_proportions_lower_limit(gained: int, lost: int, n: int, confidence: float) -> float:
    """One-sided lower limit of the difference of two proportions over the same n samples.

    Tango's score interval (Statistics in Medicine 1998, 17:891, equation 18), which stays sound with few
    discordant samples, where Wald's shrinks to nothing.

    Args:
        gained: samples that only the new model has right.
        lost: samples that only the old one has.
    """
    _need(n, 1)
    target, low, high = _z(confidence), -1.0, (gained - lost) / n
    if _tango(gained, lost, n, low) < target:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        if _tango(gained, lost, n, middle) >= target:
            low = middle
        else:
            high = middle
    return low


def paired_proportions_interval(
    gained: int, lost: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Two-sided interval of the difference of two proportions over the same n samples, as the limit above."""
    one_sided = 0.5 + confidence / 2
    low = paired_proportions_lower_limit(gained, lost, n, one_sided)
    return low, -paired_proportions_lower_limit(lost, gained, n, one_sided)


def paired_proportions_sd(gained: int, lost: int, n: int) -> float:
    """Standard deviation of the differences of 0 or 1 over pairs, never zero.

    With half a sample added to each of the four cells (Agresti and Min, Biostatistics 2005, 6:386), because
    no sample told the two apart yet is no proof that none ever does.
    """
    up, down = (gained + 0.5) / (n + 2), (lost + 0.5) / (n + 2)
    return math.sqrt(up + down - (up - down) ** 2)


def proportion_sd(mean: float, n: int) -> float:
    """Standard deviation of values of 0 or 1 with this mean, never zero (Agresti and Coull 1998)."""
    share = (mean * n + 2) / (n + 4)
    return math.sqrt(share * (1 - share))


def paired_difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    weights_a: Sequence[float] | Floats | None = None,
    weights_b: Sequence[float] | Floats | None = None,
) -> Mean:
    """(Weighted) mean of B minus that of A over the same samples, with its standard error over pairs.

    The error of a difference of ratios is that of its linear terms (Cochran, 6.4 and 6.10); without weights
    it is the paired t-test's.

    Raises:
        ValueError: fewer than two samples, or unlike numbers of them.
    """
    x, w = _arrays(a, weights_a)
    y, v = _arrays(b, weights_b)
    n = len(x)
    _need(n, 2)
    mean_a, mean_b = float(np.average(x, weights=w)), float(np.average(y, weights=v))
    terms = v * (y - mean_b) / v.mean() - w * (x - mean_a) / w.mean()
    return Mean(mean_b - mean_a, math.sqrt(float((terms**2).sum()) / (n - 1) / n), n)


def unpaired_lower_limit(new: Mean, old: Mean, confidence: float) -> float:
    """One-sided lower limit of new - old as of independent samples, Welch's t (Welch 1947, Biometrika 34:28).

    Of models that saw the same samples it is the more cautious way: what they have in common is not used.
    """
    _need(min(new.n, old.n), 2)
    a, b = new.standard_error**2, old.standard_error**2
    error = math.sqrt(a + b)
    if error == 0.0:
        return new.value - old.value
    freedom = (a + b) ** 2 / (a * a / (new.n - 1) + b * b / (old.n - 1))
    return new.value - old.value - float(special.stdtrit(freedom, confidence)) * error


def unpaired_proportions_lower_limit(
    new_successes: int, new_n: int, old_successes: int, old_n: int, confidence: float
) -> float:
    """One-sided lower limit of new - old of independent proportions.

    Agresti and Caffo (American Statistician 2000, 54:280): one success and one failure are added to each.
    """
    new, old = (new_successes + 1) / (new_n + 2), (old_successes + 1) / (old_n + 2)
    error = math.sqrt(new * (1 - new) / (new_n + 2) + old * (1 - old) / (old_n + 2))
    return new - old - _z(confidence) * error


def is_not_inferior(lower_limit: float, margin: float) -> bool:
    """One-sided non-inferiority: the lower limit of new - old, higher being better, is above -margin.

    (US FDA, Non-Inferiority Clinical Trials, 2016.) NaN is never above anything.
    """
    return lower_limit >= -margin


def smallest_effect_paired(
    sd_of_differences: float, n: int, *, confidence: float = 0.95, power: float = 0.8, sides: int = 2
) -> float:
    """Mean difference that n pairs find with `power`: (z_a + z_power) sd / sqrt(n).

    Normal approximation (Chow, Shao, Wang, Sample Size Calculations, 3.1); a little small below n = 30.
    """
    _need(n, 1)
    return _z_sum(confidence, power, sides) * sd_of_differences / math.sqrt(n)


def smallest_effect_unpaired(
    sd_a: float,
    n_a: int,
    sd_b: float,
    n_b: int,
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    sides: int = 2,
) -> float:
    """Mean difference that two independent sets of samples find with `power` (as above, 3.2)."""
    _need(min(n_a, n_b), 1)
    return _z_sum(confidence, power, sides) * math.sqrt(sd_a**2 / n_a + sd_b**2 / n_b)


def smallest_effect_proportions(
    share: float, n_a: int, n_b: int, *, confidence: float = 0.95, power: float = 0.8, sides: int = 2
) -> float:
    """Difference to `share` that two independent sets find with `power`; the wider of the two ways.

    By the arcsine transform: h = (z_a + z_power) sqrt(1/n_a + 1/n_b) (Cohen 1988, 6.2), turned back.
    """
    _need(min(n_a, n_b), 1)
    h = _z_sum(confidence, power, sides) * math.sqrt(1 / n_a + 1 / n_b)
    angle = 2 * math.asin(math.sqrt(min(max(share, 0.0), 1.0)))
    down = math.sin(max(angle - h, 0.0) / 2) ** 2
    up = math.sin(min(angle + h, math.pi) / 2) ** 2
    return max(share - down, up - share)


def samples_needed(sd: float, effect: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """Samples at which a one-sided limit clears a bound that is `effect` away, with `power`."""
    if effect <= 0.0 or sd <= 0.0:
        return 0
    return math.ceil((_z_sum(confidence, power, 1) * sd / effect) ** 2)


def _tango(gained: int, lost: int, n: int, difference: float) -> float:
    """The score statistic against H0: p_new - p_old = difference, with the nuisance at its likeliest."""
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    loss_rate = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * loss_rate + difference * (1 - difference))
    gap = gained - lost - n * difference
    if variance <= 0.0:
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


def _bca_tails(x: Floats, w: Floats, found: Floats, tails: tuple[float, float]) -> tuple[float, float]:
    whole = float(np.average(x, weights=w))
    # Half of the ties: a mean of few distinct values equals the estimate often.
    below = (float((found < whole).mean()) + float((found <= whole).mean())) / 2
    edge = 0.5 / len(found)
    bias = _z(min(max(below, edge), 1 - edge))
    without = (float(np.dot(x, w)) - x * w) / (float(w.sum()) - w)
    gaps = without.mean() - without
    spread = float((gaps**2).sum())
    skew = float((gaps**3).sum()) / (6 * spread**1.5) if spread > 0.0 else 0.0
    low, high = (_bca_tail(bias, skew, tail) for tail in tails)
    return low, high


def _bca_tail(bias: float, skew: float, tail: float) -> float:
    z = bias + _z(tail)
    return float(special.ndtr(bias + z / (1 - skew * z)))


def _resampled_means(x: Floats, w: Floats, resamples: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    rows = max(1, _ELEMENTS_PER_CHUNK // len(x))
    weighted = x * w
    found: list[Floats] = []
    for first in range(0, resamples, rows):
        drawn = generator.integers(0, len(x), (min(rows, resamples - first), len(x)))
        found.append(weighted[drawn].sum(axis=1) / w[drawn].sum(axis=1))
    return np.concatenate(found)


def _arrays(values: Any, weights: Any) -> tuple[Floats, Floats]:
    x = np.asarray(values, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if len(x) != len(w):
        raise ValueError(f"{len(x)} values and {len(w)} weights")
    if len(w) and (float(w.sum()) <= 0.0 or float(w.min()) < 0.0):
        raise ValueError("weights must not be negative, nor all zero")
    return x, w


def _need(n: int, least: int) -> None:
    if n < least:
        raise ValueError(f"{n} samples; at least {least} are needed")


def _z(probability: float) -> float:
    return float(special.ndtri(probability))


def _t(probability: float, n: int) -> float:
    _need(n, 2)
    return float(special.stdtrit(n - 1, probability))


def _z_sum(confidence: float, power: float, sides: int) -> float:
    return _z(1 - (1 - confidence) / sides) + _z(power)
