"""What a round decides: who starts where, who leaves for whom, and why everybody else waits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Protocol

from steelyard.compute.scheduler.queue import Lane
from steelyard.compute.scheduler.snapshot import PreemptionRule


class Placement(NamedTuple):
    """What a granted job gets on one node."""

    node: str
    cpus: int
    memory_bytes: int
    gpu_ids: tuple[str, ...]


class Grant(NamedTuple):
    """A job that starts now, on as many different nodes as it asked for."""

    job_id: str
    placements: tuple[Placement, ...]
    flavor: str
    borrowed: bool
    """Whether its project is beyond its nominal quota with it; so it is for all without GPUs or quota."""


class Preemption(NamedTuple):
    """A running job that is asked to save a checkpoint and leave, to be queued again."""

    job_id: str
    reason: PreemptionRule
    for_job: str


class Nomination(NamedTuple):
    """Nodes that are being emptied for a queued job. Bring `nodes` back as its `nominated_nodes`."""

    job_id: str
    nodes: tuple[str, ...]


class WaitingCode(StrEnum):
    """Why a job waits."""

    WAITING_FOR_CAPACITY = "waiting_for_capacity"
    WAITING_FOR_PREEMPTION = "waiting_for_preemption"
    QUOTA_EXCEEDED = "quota_exceeded"
    PRICE_CAP = "price_cap"
    UNSCHEDULABLE = "unschedulable"


_WAITING_IN_LINE = frozenset((WaitingCode.WAITING_FOR_CAPACITY,))


@dataclass(frozen=True, slots=True)
class Cause:
    """What is said of all jobs of one project and shape."""

    code: WaitingCode
    numbers: Mapping[str, int | float | str]
    template: str

    @property
    def sentence(self) -> str:
        """Say it in words."""
        return self.template.format(**self.numbers)


class Waiting(NamedTuple):
    """Why one job waits, where it stands (1 is next), and the numbers behind it.

    The keys of `numbers` are those that `sentence` speaks of; they depend on `code`.
    """

    job_id: str
    code: WaitingCode
    position: int
    numbers: Mapping[str, int | float | str]
    template: str

    @property
    def sentence(self) -> str:
        """Say it in words: what is missing, and what would free it."""
        text = self.template.format(**self.numbers)
        return f"{text}; position {self.position}" if self.code in _WAITING_IN_LINE else text


class Explained(Protocol):
    """See `steelyard.compute.scheduler.explanation.Explanation`."""

    def waiting(self) -> Iterator[Waiting]:
        """Say why each job waits, as far as somebody reads."""
        ...

    def causes(self) -> Iterator[tuple[Lane, Cause]]:
        """Say why the jobs of each lane wait."""
        ...

    def cause(self, lane: Lane) -> Cause:
        """Say why the jobs of one lane wait."""
        ...


@dataclass(frozen=True)
class Decisions:
    """The outcome of a round.

    `grants` are in the order in which they were made. A job of `nominations` is granted in a later
    round, when those have left whom `preemptions` names. `waiting` covers every queued job that isn't
    granted, in order of position; it is worked out when first read.
    """

    grants: tuple[Grant, ...]
    preemptions: tuple[Preemption, ...]
    nominations: tuple[Nomination, ...]
    steps: int
    """Elementary looks at lanes, nodes and victims that the round took: its cost, on any machine."""
    explanation: Explained = field(repr=False, compare=False)

    @cached_property
    def waiting(self) -> tuple[Waiting, ...]:
        """Why each job that isn't granted waits, first in line first."""
        return tuple(self.explanation.waiting())

    def first_waiting(self, count: int) -> tuple[Waiting, ...]:
        """Return the head of `waiting`; the rest isn't worked out."""
        return tuple(islice(self.explanation.waiting(), count))

    def why(self, job_id: str) -> Waiting | None:
        """Return why one job waits; None where it is granted or isn't in the queue."""
        return next((reason for reason in self.explanation.waiting() if reason.job_id == job_id), None)
