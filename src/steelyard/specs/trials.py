"""Trials of a search, as people see them."""

from datetime import datetime
from typing import Literal

from steelyard.specs.base import Message
from steelyard.specs.states import JobState

TrialOrder = Literal["number", "value"]
"""`value`: the best first, then those that have none yet."""


class TrialPoint(Message):
    """A point of a trial's curve."""

    step: int
    value: float | None
    """None: it was no finite number."""


class TrialView(Message):
    """One trial: a job of its own, made with the values in `parameters`."""

    number: int
    job: str
    """Its id; everything that shows a job shows it."""
    state: JobState
    status_reason: str | None
    status_message: str | None
    parameters: dict[str, str | int | float | bool]
    value: float | None
    """Of the search's metric: at its end, or (`is_final` false) the last on its way."""
    is_final: bool
    """Whether `value` is what the best is chosen by."""
    is_best: bool
    step: int
    """How far it has trained."""
    curve: list[TrialPoint] | None = None
    """The curve that is kept, where it was asked for."""
    started_at: datetime | None
    ended_at: datetime | None
