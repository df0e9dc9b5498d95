"""Jobs made of jobs: what a search or an RLHF pipeline knows of its children, and what it wants next.

The decision is a pure function from the parent's spec and its children to a `FamilyStep`; `jobs` carries the
step out. It is asked again after everything that happens, so it must answer the same for the same children.
"""

from dataclasses import dataclass, field
from typing import Any

from steelyard.specs.states import JobState

FAMILY_TYPES = ("hpo", "rlhf")
"""Types of jobs that are made of other jobs: they hold no place and have no attempts."""
MOST_ACTS = 100
"""Children that one look pauses, resumes or stops at most; another look does the rest."""
MOST_STARTS = 20
"""Children that one look, which is one transaction, makes or starts again at most; the next look goes on."""


@dataclass(frozen=True)
class Child:
    """A child as its family sees it."""

    key: str
    """Its name within the family, such as `trial-0007` or `reward_model`; given once, never again."""
    job_id: str
    state: JobState
    reason: str | None
    """Its `status_reason`."""
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the order that made it said of it."""
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    """What it has measured in the end, by name."""
    curve: tuple[tuple[int, float], ...] = ()
    """(step, value) of the family's own metric so far, by rising step; empty where nobody asked for it."""
    model_version: str | None = None
    """`models/NAME@VERSION`, once it is registered."""
    message: str | None = None
    """Its `status_message`: of one that failed, why."""
    is_due: bool = False
    """It ended in an earlier run of its family, which was retried since: it waits to be started again, so it
    is not over, and holds no place until then."""


@dataclass(frozen=True)
class ChildOrder:
    """A child that is to be made."""

    key: str
    spec: dict[str, Any]
    """A whole job spec, as JSON; its resources and limits stay within what the parent reserved."""
    parameters: dict[str, Any]
    registers: bool
    """Whether its model is registered when it is done. A search registers the best one itself, at its end."""
    why: str = ""
    """What it is made for, in words; its family's events tell it."""


@dataclass(frozen=True)
class ChildStop:
    """A child that is to stop before its end, and why."""

    key: str
    reason: str
    message: str


@dataclass(frozen=True)
class FamilyEnd:
    """The family's work is over. `chosen` is the child whose model is the result, if there is one."""

    succeeded: bool
    reason: str
    message: str
    chosen: str | None = None


@dataclass(frozen=True)
class FamilyStep:
    """What is to be done now: children to make, to stop, to start again, or the end. All empty: wait."""

    start: tuple[ChildOrder, ...] = ()
    stop: tuple[ChildStop, ...] = ()
    end: FamilyEnd | None = None
    message: str = ""
    """How the family stands, in words for people."""
    restart: tuple[str, ...] = ()
    """Keys of children that are due, and are started again now. Only so many as may be at work at once."""
