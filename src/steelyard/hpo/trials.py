"""Children of a search, read as trials."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steelyard.hpo.metrics import LOSSES
from steelyard.hpo.space import Point, read_value
from steelyard.specs.families import Child
from steelyard.specs.search import SearchBlock
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason

Curve = tuple[tuple[int, float], ...]
"""(step, value) by rising step; NaN is a value that was no number."""

_KEY = re.compile(r"^trial-(\d{4,})$")
_TRAINED = "train/loss"
_HOPELESS = frozenset({Reason.NAN_LOSS, Reason.OUT_OF_MEMORY})


@dataclass(frozen=True)
class Trial:
    """A trial as the rules of a search see it."""

    number: int
    key: str
    state: JobState
    reason: str | None
    point: Point
    value: float | None
    """Of the search's metric, at the trial's end; None: it has none yet, or none that is a finite number."""
    curve: Curve
    is_trained: bool
    """Its training is over, though it may still be evaluated."""
    is_due: bool = False
    """It is to be started again, and waits for its turn."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in TERMINAL_STATES and not self.is_due

    @property
    def is_at_work(self) -> bool:
        """Whether it takes one of the places that trials have at once."""
        return self.state not in TERMINAL_STATES

    @property
    def is_paused(self) -> bool:
        """Whether it keeps its place and does nothing in it."""
        return self.state is JobState.PAUSED

    @property
    def has_failed(self) -> bool:
        """Whether it failed by itself. A model that its gates refuse is no failure of the search."""
        return self.is_over and self.state is JobState.FAILED and self.reason != Reason.GATE_FAILED

    @property
    def is_hopeless(self) -> bool:
        """Whether it failed by its values, which others near by would do as well."""
        return self.has_failed and self.reason in _HOPELESS

    @property
    def was_pruned(self) -> bool:
        """Whether the search stopped it."""
        return self.state is JobState.CANCELLED and self.reason == Reason.PRUNED


def key_of(number: int) -> str:
    """Return the key of a trial within its family; keys sort as numbers do."""
    return f"trial-{number:04d}"


def number_of(key: str) -> int:
    """Return the number in a trial's key.

    Raises:
        ValueError: it is no trial's.
    """
    match = _KEY.match(key)
    if match is None:
        raise ValueError(f"{key!r} is no trial's key")
    return int(match[1])


def read_trials(block: SearchBlock, children: Sequence[Child]) -> list[Trial]:
    """Return children as trials, by number, in whatever order they come."""
    return sorted((_read(block, child) for child in children), key=lambda trial: trial.number)


def value_in(metrics: Mapping[str, float], metric: str) -> float | None:
    """Return a search's metric among what a job has measured: of the trained model, not of its base."""
    value = metrics.get(f"tuned/{metric}", metrics.get(metric))
    return value if value is not None and math.isfinite(value) else None


def has_own_curve(block: SearchBlock) -> bool:
    """Whether the curve that is kept is of the search's own metric."""
    return block.metric in LOSSES and block.pruning.metric in (None, block.metric)


def best_of(block: SearchBlock, trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that succeeded; of equal ones the first. None: none has a value."""
    done = [(trial, trial.value) for trial in trials if trial.state is JobState.SUCCEEDED]
    ranked = [(loss_of(block, value), trial.number, trial) for trial, value in done if value is not None]
    return min(ranked)[2] if ranked else None


def loss_of(block: SearchBlock, value: float) -> float:
    """Return a value so that less is better."""
    return value if block.direction == "minimize" else -value


def _value(block: SearchBlock, child: Child) -> float | None:
    """A trainer of one's own may tell a curve and name no figure at its end."""
    measured = value_in(child.metrics, block.metric)
    if measured is None and child.curve and child.state is JobState.SUCCEEDED and has_own_curve(block):
        last = max(child.curve)[1]
        return last if math.isfinite(last) else None
    return measured


def _read(block: SearchBlock, child: Child) -> Trial:
    return Trial(
        number=number_of(child.key),
        key=child.key,
        state=JobState(child.state),
        reason=child.reason,
        point={
            path: read_value(parameter, child.parameters[path])
            for path, parameter in block.parameters.items()
            if path in child.parameters
        },
        value=_value(block, child),
        curve=tuple(sorted(child.curve)),
        is_trained=_TRAINED in child.metrics,
        is_due=child.is_due,
    )
