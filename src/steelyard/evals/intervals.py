"""From an attempt's figures to results with intervals. Pure."""

import math
from collections.abc import Mapping, Sequence

from steelyard.evals.statistics import bootstrap_interval, t_interval, wilson_interval
from steelyard.specs.evaluations import Figure, MetricResult

_NORMAL_95 = 1.959963984540054
Columns = Mapping[str, Sequence[float | None]]
"""Column of the per-sample file -> its values in the file's order."""


def results_of(figures: Sequence[Figure], columns: Columns) -> list[MetricResult]:
    """Return the figures with 95 % intervals, by the way that fits each: Wilson for shares, Student's t for
    means, a bootstrap for weighted means, and the exponential of the loss's for a perplexity."""
    found: dict[str, MetricResult] = {}
    for figure in figures:
        if figure.of is None:
            found[figure.name] = _result(figure, *_interval(figure, columns))
    for figure in figures:
        if figure.of is not None:
            inner = found[figure.of]
            interval = (_exp(inner.interval[0]), _exp(inner.interval[1]))
            found[figure.name] = _result(figure, interval, inner.method)
    return [found[figure.name] for figure in figures]


def _interval(figure: Figure, columns: Columns) -> tuple[tuple[float, float], str]:
    if figure.n < 2:
        # One sample says nothing of how far off it is.
        return (figure.value, figure.value), "none"
    if figure.proportion:
        return wilson_interval(figure.value * figure.n, figure.n), "wilson"
    if figure.column is not None and figure.weight_column is not None:
        values, weights = _weighted(columns[figure.column], columns[figure.weight_column])
        return bootstrap_interval(values, weights), "bootstrap"
    if figure.column is not None:
        return t_interval(figure.value, figure.standard_error, figure.n), "t"
    half = _NORMAL_95 * figure.standard_error
    return (figure.value - half, figure.value + half), "normal"


def _weighted(
    values: Sequence[float | None], weights: Sequence[float | None]
) -> tuple[list[float], list[float]]:
    pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    return [value for value, _ in pairs], [weight or 0.0 for _, weight in pairs]


def _result(figure: Figure, interval: tuple[float, float], method: str) -> MetricResult:
    return MetricResult(
        name=figure.name,
        mean=figure.value,
        standard_error=figure.standard_error,
        n=figure.n,
        interval=interval,
        method=method,
        higher_is_better=figure.higher_is_better,
        proportion=figure.proportion,
        column=figure.column,
        weight_column=figure.weight_column,
    )


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
