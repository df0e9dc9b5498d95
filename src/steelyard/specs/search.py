"""The search block of an HPO job."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.specs.base import Spec


class FloatRange(Spec):
    """A real number between two bounds."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    """Draw by order of magnitude."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Grid of the values; a grid search needs it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a log range needs low > 0")
        return self


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


class Choice(Spec):
    """One of the listed values."""

    type: Literal["choice"]
    values: Annotated[list[str | int | float | bool], Field(min_length=1)]


Parameter = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]


class PruningBlock(Spec):
    """When a trial is stopped early."""

    type: Literal["none", "median", "asha"] = "none"
    min_steps: Annotated[int, Field(ge=1)] = 10
    """No trial is judged before this step."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """ASHA: one trial in so many goes on to the next rung."""


class SearchBlock(Spec):
    """What is searched, how, and for how long."""

    algorithm: Literal["grid", "random", "bayesian"]
    metric: Annotated[str, Field(min_length=1)]
    direction: Literal["minimize", "maximize"]
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    """Path of the trial's field (`training.learning_rate`) -> its values."""
    max_trials: Annotated[int, Field(ge=1, le=10_000)]
    max_concurrent_trials: Annotated[int, Field(ge=1, le=1000)] = 4
    pruning: PruningBlock = PruningBlock()
    seed: Annotated[int, Field(ge=0)] = 0
