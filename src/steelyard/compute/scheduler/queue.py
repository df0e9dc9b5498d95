"""Queued jobs in lanes: jobs of one project, shape, priority, time limit and past, first come first.

Jobs of one lane differ only in when they came, so a round looks at the head of each lane and never at
the thousands behind it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Self, overload


class SpotPolicy(StrEnum):
    """Whether a job may run on nodes that can be taken back at short notice."""

    NEVER = "never"
    PREFER = "prefer"
    """Spot first, else on demand; the last retry goes to on-demand nodes."""
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that wants `nodes` different nodes with so much on each, all or none."""

    id: str
    project: str
    submitted_seconds: float
    """When it first came; kept over preemptions, so that a victim doesn't go to the end."""
    cpus: int = 1
    memory_bytes: int = 0
    gpus: int = 0
    nodes: int = 1
    priority: int = 500
    sequence: int = 0
    """Breaks ties of `submitted_seconds`; then `id` does."""
    flavors: tuple[str, ...] = ()
    """The flavors that will do, best first; empty: any, cheapest first."""
    spot: SpotPolicy = SpotPolicy.NEVER
    max_price_per_gpu_hour: float | None = None
    retries_left: int = 1
    """Launches after a further failure; at 0 this launch is the last."""
    evictions: int = 0
    max_runtime_seconds: float | None = None
    """What is left of its limit; None: not known, and then it never runs on nodes kept for another."""
    ran_seconds: float = 0.0
    """How long it ran so far, in all its starts."""
    nominated_nodes: tuple[str, ...] = ()
    """Where earlier preemptions make room for it: `Nomination.nodes`, brought back by the caller until
    the job is granted."""
    made_way_for: tuple[str, ...] = ()
    """The jobs for which it was preempted, of the last day at least; it will not preempt these."""


class Shape(NamedTuple):
    """What a job needs to be placed. `spot` already knows of the last retry."""

    nodes: int
    cpus: int
    memory_bytes: int
    gpus: int
    flavors: tuple[str, ...]
    spot: SpotPolicy
    max_price_per_gpu_hour: float | None


class Lane(NamedTuple):
    """The key of a lane."""

    project: str
    shape: Shape
    priority: int
    max_runtime_seconds: float | None
    claims: bool
    """Whether its jobs have nominated nodes."""
    made_way_for: tuple[str, ...]
    ran_seconds: float


Arrival = tuple[float, int, str]


class Arrivals(Sequence[QueuedJob]):
    """Jobs of one lane, made one by one as somebody looks at them: most rounds look at a few of thousands.

    Args:
        pattern: any of them; all but its id and moment is common to all.
        arrived: each one's moment and id, in that order, sorted.
    """

    __slots__ = ("_arrived", "_made", "_pattern")

    def __init__(self, pattern: QueuedJob, arrived: Sequence[tuple[float, str]]) -> None:
        self._pattern = pattern
        self._arrived = arrived
        self._made: dict[int, QueuedJob] = {}

    @property
    def looked_at(self) -> int:
        """How many of them were made so far."""
        return len(self._made)

    def __len__(self) -> int:
        return len(self._arrived)

    @overload
    def __getitem__(self, index: int) -> QueuedJob: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[QueuedJob, ...]: ...

    def __getitem__(self, index: int | slice) -> QueuedJob | tuple[QueuedJob, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        job = self._made.get(index)
        if job is None:
            moment, name = self._arrived[index]
            job = self._made[index] = replace(self._pattern, id=name, submitted_seconds=moment)
        return job


class JobQueue:
    """An immutable queue; `plus` and `minus` share the lanes that they don't touch with the original."""

    __slots__ = ("_lanes",)

    def __init__(self, lanes: Mapping[Lane, Sequence[QueuedJob]]) -> None:
        self._lanes = lanes

    @classmethod
    def of(cls, jobs: Iterable[QueuedJob]) -> Self:
        """Sort `jobs` into lanes; their order means nothing."""
        lanes: dict[Lane, list[QueuedJob]] = {}
        for job in jobs:
            lanes.setdefault(lane_of(job), []).append(job)
        return cls({lane: tuple(sorted(found, key=arrival)) for lane, found in lanes.items()})

    @property
    def lanes(self) -> Mapping[Lane, Sequence[QueuedJob]]:
        """The lanes, each in order of arrival; none is empty."""
        return self._lanes

    def __iter__(self) -> Iterator[QueuedJob]:
        for jobs in self._lanes.values():
            yield from jobs

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def plus(self, jobs: Iterable[QueuedJob]) -> Self:
        """Return a queue with `jobs` in it too."""
        lanes = dict(self._lanes)
        for job in jobs:
            lane = lane_of(job)
            present = lanes.get(lane, ())
            place = bisect_left(present, arrival(job), key=arrival)
            lanes[lane] = (*present[:place], job, *present[place:])
        return type(self)(lanes)

    def minus(self, jobs: Iterable[QueuedJob]) -> Self:
        """Return a queue without `jobs`, which must be equal to those that were put in.

        Raises:
            KeyError: one of them isn't in the queue.
        """
        lanes = dict(self._lanes)
        for job in jobs:
            lane = lane_of(job)
            present = lanes[lane]
            place = bisect_left(present, arrival(job), key=arrival)
            if place == len(present) or present[place].id != job.id:
                raise KeyError(job.id)
            rest = (*present[:place], *present[place + 1 :])
            if rest:
                lanes[lane] = rest
            else:
                del lanes[lane]
        return type(self)(lanes)


def arrival(job: QueuedJob) -> Arrival:
    """Return the key by which jobs of one priority are served."""
    return job.submitted_seconds, job.sequence, job.id


def lane_of(job: QueuedJob) -> Lane:
    """Return the lane that `job` waits in."""
    spot = job.spot
    if spot is SpotPolicy.PREFER and job.retries_left <= 0:
        spot = SpotPolicy.NEVER
    shape = Shape(
        job.nodes,
        job.cpus,
        job.memory_bytes,
        job.gpus,
        job.flavors,
        spot,
        job.max_price_per_gpu_hour,
    )
    return Lane(
        job.project,
        shape,
        job.priority,
        job.max_runtime_seconds,
        bool(job.nominated_nodes),
        job.made_way_for,
        job.ran_seconds,
    )
