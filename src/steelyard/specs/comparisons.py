"""Figures of two models beside one another."""

from typing import Literal

from steelyard.specs.base import Message


class MetricComparison(Message):
    """One metric of two models on the same samples; differences are B minus A."""

    metric: str
    a: float | None
    b: float | None
    n: int
    """Samples that both have."""
    difference: float | None = None
    interval: tuple[float, float] | None = None
    """At 95 %: Tango's score interval where all values are 0 or 1, else by paired bootstrap."""
    p_value: float | None = None
    """McNemar's exact test where all values are 0 or 1, else the paired bootstrap's; two-sided."""
    test: str | None = None
    smallest_effect: float | None = None
    """Difference that so many samples would have found with 80 % power at the 5 % level."""
    higher_is_better: bool = True
    verdict: Literal["better", "worse", "no difference shown", "not comparable"]
    """Of B beside A."""
    message: str = ""


class BaseComparison(Message):
    """A model beside the one that it was trained from, in one suite. A is the base, B the model."""

    evaluation: str | None = None
    """Of the base: measured with the same content of the suite, under the same settings."""
    model_name: str | None = None
    model_digest: str | None = None
    metrics: list[MetricComparison] = []
    message: str = ""
    """Why there is nothing to compare with, and what to do."""
