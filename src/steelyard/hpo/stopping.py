"""Which trials stop early. Pure over the curves that there are; less is better.

No trial waits for another: each is judged against what the others have shown by now, and again when more
is there. So a trial that led while it was alone may still stop when better ones have come as far.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from steelyard.hpo.curves import judged_step, rungs_up_to
from steelyard.hpo.trials import Curve
from steelyard.specs.search import PruningBlock

_SCALE = 2.0**64
"""A power of two, so that dividing by it loses no digit."""


def stops(pruning: PruningBlock, curves: Mapping[int, Curve], candidates: Sequence[int]) -> dict[int, str]:
    """Return the candidates that are to stop, by number, each with the reason in words.

    Args:
        pruning: the rule.
        curves: of all trials, those that are over too, by number.
        candidates: numbers of the trials that may be stopped.
    """
    if pruning.type == "asha":
        return asha_stops(pruning, curves, candidates)
    return median_stops(pruning, curves, candidates) if pruning.type == "median" else {}


def asha_stops(
    pruning: PruningBlock, curves: Mapping[int, Curve], candidates: Sequence[int]
) -> dict[int, str]:
    """Stop what isn't among the best `n // reduction_factor` of the `n` trials that reached its highest rung.

    The stopping form of asynchronous successive halving (Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020): what isn't promoted ends, rather than waiting. A rung says nothing
    before `reduction_factor` trials have reached it. The best of a rung, and what equals it, always goes on.
    """
    results = _rung_results(pruning, curves)
    found: dict[int, str] = {}
    for number in candidates:
        reached = [rung for rung, values in results.items() if number in values]
        if not reached:
            continue
        values = results[max(reached)]
        kept = len(values) // pruning.reduction_factor
        if kept == 0:
            continue
        bound = sorted(values.values())[kept - 1]
        if values[number] > bound:
            found[number] = (
                f"{values[number]:.6g} at step {max(reached)} is not among the best {kept} of the"
                f" {len(values)} trials that got as far (bound {bound:.6g})"
            )
    return found


def median_stops(
    pruning: PruningBlock, curves: Mapping[int, Curve], candidates: Sequence[int]
) -> dict[int, str]:
    """Stop what at its best, up to its last judged step, is worse than the median of the others' averages.

    The median stopping rule (Golovin et al., Google Vizier, KDD 2017, 3.2.1), over all trials that got as
    far rather than the finished ones alone, so that it can judge before the first has ended.
    """
    found: dict[int, str] = {}
    for number in candidates:
        curve = curves.get(number, ())
        step = judged_step(pruning, curve[-1][0]) if curve else None
        if step is None:
            continue
        others = [
            _mean(_losses(other, step))
            for each, other in curves.items()
            if each != number and other and other[0][0] <= step <= other[-1][0]
        ]
        mine = _losses(curve, step)
        if len(others) < pruning.min_trials or not mine:
            continue
        best, middle = min(mine), median(others)
        if best > middle:
            found[number] = (
                f"its best up to step {step}, {best:.6g}, is worse than the median of the averages of"
                f" {len(others)} others, {middle:.6g}"
            )
    return found


def value_at(curve: Curve, step: int) -> float | None:
    """Return what a curve was at the first point at or after a step; no number counts as the worst."""
    return next((_loss(value) for at, value in curve if at >= step), None)


def _rung_results(pruning: PruningBlock, curves: Mapping[int, Curve]) -> dict[int, dict[int, float]]:
    """Return rung -> trial -> value, for the trials that reached it."""
    results: dict[int, dict[int, float]] = {}
    for number, curve in curves.items():
        for rung in rungs_up_to(pruning, curve[-1][0]) if curve else ():
            value = value_at(curve, rung)
            if value is not None:
                results.setdefault(rung, {})[number] = value
    return results


def _losses(curve: Curve, step: int) -> list[float]:
    return [_loss(value) for at, value in curve if at <= step]


def _mean(values: Sequence[float]) -> float:
    """The average also of numbers whose sum is too great for one."""
    try:
        return fmean(values)
    except OverflowError:
        return fmean(value / _SCALE for value in values) * _SCALE


def _loss(value: float) -> float:
    return value if math.isfinite(value) else math.inf
