"""A project's line: its lanes merged by effective priority, looked at from the front."""

import heapq
from collections.abc import Sequence

from steelyard.compute.scheduler.priorities import Rank, rank
from steelyard.compute.scheduler.queue import Lane, QueuedJob
from steelyard.compute.scheduler.shares import Standing
from steelyard.compute.scheduler.snapshot import Policy

_Entry = tuple[Rank, int, int]


class ProjectLine:
    """The queued jobs of one project in order. Owned by one round and used up by it."""

    __slots__ = ("_heap", "_lanes", "_later", "_now", "_policy", "standing")

    def __init__(self, standing: Standing, now_seconds: float, policy: Policy) -> None:
        self.standing = standing
        self._now = now_seconds
        self._policy = policy
        self._lanes: list[tuple[Lane, Sequence[QueuedJob]]] = []
        self._heap: list[_Entry] = []
        self._later: list[_Entry] = []

    def add(self, lane: Lane, jobs: Sequence[QueuedJob]) -> None:
        """Add a lane's jobs, in order of arrival."""
        self._lanes.append((lane, jobs))
        heapq.heappush(self._heap, self._entry(len(self._lanes) - 1, 0))

    def top(self) -> tuple[QueuedJob, Lane] | None:
        """Return the first job, unless none is left."""
        if not self._heap:
            return None
        _, index, place = self._heap[0]
        lane, jobs = self._lanes[index]
        return jobs[place], lane

    def rank(self) -> Rank:
        """Return the first job's rank."""
        return self._heap[0][0]

    def take(self) -> None:
        """Go on behind the first job."""
        _, index, place = self._heap[0]
        if place + 1 < len(self._lanes[index][1]):
            heapq.heapreplace(self._heap, self._entry(index, place + 1))
        else:
            heapq.heappop(self._heap)

    def skip(self) -> None:
        """Drop the lane of the first job: who is behind it in its lane is blocked like it."""
        heapq.heappop(self._heap)

    def put_off(self) -> None:
        """Set the lane of the first job aside until `resume`."""
        self._later.append(heapq.heappop(self._heap))

    def resume(self) -> None:
        """Bring back what `put_off` set aside."""
        self._heap += self._later
        self._later = []
        heapq.heapify(self._heap)

    def _entry(self, index: int, place: int) -> _Entry:
        return rank(self._lanes[index][1][place], self._now, self._policy), index, place
