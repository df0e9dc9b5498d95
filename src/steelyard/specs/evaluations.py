"""Evaluations in words that everybody shares: what an attempt leaves behind, and what people are shown."""

from steelyard.specs.base import Message


class MetricResult(Message):
    """One figure of one model in one suite."""

    name: str
    """Without the suite: `accuracy`, or `<task>.accuracy` for one task of a suite of several."""
    mean: float
    standard_error: float
    n: int
    interval: tuple[float, float]
    """At 95 %."""
    method: str
    """How the interval was made: `wilson`, `t`, `bootstrap`, or `normal` from the engine's own error."""
    higher_is_better: bool
    proportion: bool = False
    column: str | None = None
    """Column of the per-sample file that holds its values."""
    weight_column: str | None = None
