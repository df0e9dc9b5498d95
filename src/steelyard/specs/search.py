"""The search block of an HPO job."""

import math
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.specs.base import Spec

CurveMetric = Literal["train/loss", "eval/loss"]
"""What a trial tells while it trains: the loss of its logged steps, and that of its validation rows at each
`training.eval_steps`."""
Bound = Annotated[float, Field(allow_inf_nan=False)]


class FloatRange(Spec):
    """A real number between two bounds."""

    type: Literal["float"]
    low: Bound
    high: Bound
    log: bool = False
    """Draw by order of magnitude."""
    step: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Grid of the values, from `low` on; a grid search needs it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a log range needs low > 0")
        return self

    @property
    def size(self) -> int | None:
        """How many values its grid has; None without `step`.

        Counted in decimals, as they were written: 0.1 to 0.3 by 0.1 is three values.
        """
        if self.step is None:
            return None
        return (Fraction(str(self.high)) - Fraction(str(self.low))) // Fraction(str(self.step)) + 1


class IntRange(Spec):
    """A whole number between two bounds, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must not be greater than high")
        return self

    @property
    def size(self) -> int:
        """How many values its grid has."""
        return (self.high - self.low) // self.step + 1


class Choice(Spec):
    """One of the listed values."""

    type: Literal["choice"]
    values: Annotated[list[str | int | float | bool], Field(min_length=1)]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)


Parameter = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]


class PruningBlock(Spec):
    """When a trial is stopped early."""

    type: Literal["none", "median", "asha"] = "none"
    """`median`: whose best is behind the median of the others' averages. `asha`: who isn't among the best
    `1 / reduction_factor` of those that got as far."""
    metric: CurveMetric | None = None
    """The figure that trials are judged by on their way, where `search.metric` is known at their end only."""
    min_steps: Annotated[int, Field(ge=1)] = 10
    """No trial is judged before this step. ASHA's rungs are at `min_steps * reduction_factor ** k`."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """ASHA: one trial in so many goes on to the next rung."""
    interval_steps: Annotated[int, Field(ge=1)] | None = None
    """Median: trials are judged every so many steps from `min_steps` on. Unset: every `min_steps`."""
    min_trials: Annotated[int, Field(ge=1)] = 3
    """Median: nothing is judged before so many other trials have got as far."""


class SearchBlock(Spec):
    """What is searched, how, and for how long."""

    algorithm: Literal["grid", "random", "bayesian"]
    """`bayesian`: a tree-structured Parzen estimator over what the trials so far have shown."""
    metric: Annotated[str, Field(min_length=1)]
    """What the best trial is chosen by: `SUITE/METRIC` of the trial's evaluation, or a loss in training."""
    direction: Literal["minimize", "maximize"]
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    """Path of the trial's field (`training.learning_rate`) -> its values."""
    max_trials: Annotated[int, Field(ge=1, le=10_000)]
    """Trials at most; a grid that has fewer points ends with its last one."""
    max_concurrent_trials: Annotated[int, Field(ge=1, le=1000)] = 4
    max_failed_trials: Annotated[int, Field(ge=0)] = 3
    """With more failed trials the search fails: those at work are stopped, and no more are started."""
    pruning: PruningBlock = PruningBlock()
    seed: Annotated[int, Field(ge=0)] = 0
    """Of what is drawn. The trials' own seed is `trial.training.seed`, the same for all."""

    @property
    def grid_size(self) -> int | None:
        """Points of the grid over all parameters; None where a range has no step."""
        sizes = [parameter.size for parameter in self.parameters.values()]
        known = [size for size in sizes if size is not None]
        return math.prod(known) if len(known) == len(sizes) else None

    @property
    def trials(self) -> int:
        """How many trials there will be at most."""
        if self.algorithm != "grid":
            return self.max_trials
        size = self.grid_size
        return self.max_trials if size is None else min(self.max_trials, size)
