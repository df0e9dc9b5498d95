"""A project's line: its lanes merged by effective priority, looked at from the front.

Lanes of one shape stand together in a rack, so that all of a rack can be set aside in one step where nothing
can start of its shape, however many different priorities and limits its jobs have.
"""

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from steelyard.compute.scheduler.priorities import Rank, rank
from steelyard.compute.scheduler.queue import Lane, QueuedJob, Shape
from steelyard.compute.scheduler.shares import Standing
from steelyard.compute.scheduler.snapshot import Policy

_Entry = tuple[Rank, int, int]


@dataclass(slots=True)
class Rack:
    """The lanes of one shape."""

    shape: Shape
    number: int
    shortest_seconds: float = math.inf
    """No job in it has a limit below this; one without a limit has none."""
    highest_priority: int = 0
    heap: list[_Entry] = field(default_factory=list[_Entry])
    later: list[_Entry] = field(default_factory=list[_Entry])
    all: list[_Entry] = field(default_factory=list[_Entry])


class ProjectLine:
    """The queued jobs of one project in order. Owned by one round and used up by it."""

    __slots__ = ("_aside", "_built", "_heap", "_lanes", "_now", "_policy", "_racks", "_resting", "standing")

    def __init__(self, standing: Standing, now_seconds: float, policy: Policy) -> None:
        self.standing = standing
        self._now = now_seconds
        self._policy = policy
        self._lanes: list[tuple[Lane, Sequence[QueuedJob]]] = []
        self._racks: dict[Shape, Rack] = {}
        self._heap: list[tuple[Rank, int, Rack]] = []
        """Each rack by its first entry; a rack's number is never needed, as no two entries are equal."""
        self._resting: list[Rack] = []
        self._aside: list[Rack] = []
        self._built = False

    def add(self, lane: Lane, jobs: Sequence[QueuedJob]) -> None:
        """Add a lane's jobs, in order of arrival, before anybody looks at the line."""
        shape = lane.shape
        rack = self._racks.get(shape)
        if rack is None:
            rack = self._racks[shape] = Rack(shape, len(self._racks), highest_priority=lane.priority)
        limit = lane.max_runtime_seconds
        if limit is not None and limit < rack.shortest_seconds:
            rack.shortest_seconds = limit
        if lane.priority > rack.highest_priority:
            rack.highest_priority = lane.priority
        rack.all.append((rank(jobs[0], self._now, self._policy), len(self._lanes), 0))
        self._lanes.append((lane, jobs))

    def top(self) -> tuple[QueuedJob, Lane] | None:
        """Return the first job, unless none is left."""
        rack = self.top_rack()
        if rack is None:
            return None
        _, index, place = rack.heap[0]
        lane, jobs = self._lanes[index]
        return jobs[place], lane

    def top_rack(self) -> Rack | None:
        """Return the rack of the first job."""
        if not self._built:
            self._build()
        return self._heap[0][2] if self._heap else None

    def rank(self) -> Rank:
        """Return the first job's rank."""
        return self._heap[0][0]

    def take(self) -> None:
        """Go on behind the first job."""
        rack = self._heap[0][2]
        _, index, place = rack.heap[0]
        if place + 1 < len(self._lanes[index][1]):
            heapq.heapreplace(rack.heap, self._entry(index, place + 1))
        else:
            heapq.heappop(rack.heap)
        self._settle(rack)

    def skip(self) -> None:
        """Drop the lane of the first job: who is behind it in its lane is blocked like it."""
        rack = self._heap[0][2]
        heapq.heappop(rack.heap)
        self._settle(rack)

    def put_off_rack(self) -> None:
        """Set all that is left of the first job's shape aside until `resume`, or `recall`."""
        rack = heapq.heappop(self._heap)[2]
        rack.later += rack.heap
        rack.heap = []
        self._aside.append(rack)

    def recall(self, first: Rank) -> None:
        """Bring back, of the racks that were put off since the last recall, the jobs behind `first`: it has
        started, so those behind it are to be looked at anew."""
        for rack in self._aside:
            rack.heap = [entry for entry in rack.later if entry[0] > first]
            rack.later = [entry for entry in rack.later if entry[0] < first]
            if rack.heap:
                heapq.heapify(rack.heap)
                heapq.heappush(self._heap, (rack.heap[0][0], rack.number, rack))
        self._aside = []

    def resume(self) -> None:
        """Bring back what was put off."""
        self._aside = []
        for rack in self._racks.values():
            if rack.later:
                rack.heap += rack.later
                rack.later = []
                heapq.heapify(rack.heap)
        self._line_racks_up()

    def rest(self) -> None:
        """Pass over the rack of the first job, of which nothing can start until `wake`."""
        self._resting.append(heapq.heappop(self._heap)[2])

    def wake(self) -> None:
        """Bring back what rests, but for those in it whose turn has passed meanwhile: those before the first
        job, and all of it where the line has come to its end."""
        resting, self._resting = self._resting, []
        if not self._heap:
            return
        first = self._heap[0][0]
        for rack in resting:
            rack.heap = [entry for entry in rack.heap if entry[0] > first]
            if rack.heap:
                heapq.heapify(rack.heap)
                heapq.heappush(self._heap, (rack.heap[0][0], rack.number, rack))

    def walk(self, shapes: Collection[Shape]) -> Iterator[tuple[Rank, QueuedJob, Lane]]:
        """Yield all jobs of these shapes in order, whatever was taken, as far as somebody reads."""
        entries = [entry for shape in shapes for entry in self._racks[shape].all]
        heapq.heapify(entries)
        while entries:
            order, index, place = entries[0]
            lane, jobs = self._lanes[index]
            yield order, jobs[place], lane
            if place + 1 < len(jobs):
                heapq.heapreplace(entries, self._entry(index, place + 1))
            else:
                heapq.heappop(entries)

    def shapes(self) -> Collection[Shape]:
        """Return the shapes of its jobs."""
        return self._racks.keys()

    def _build(self) -> None:
        self._built = True
        for rack in self._racks.values():
            heapq.heapify(rack.all)
            rack.heap = rack.all.copy()
        self._line_racks_up()

    def _line_racks_up(self) -> None:
        self._heap = [(rack.heap[0][0], rack.number, rack) for rack in self._racks.values() if rack.heap]
        heapq.heapify(self._heap)

    def _settle(self, rack: Rack) -> None:
        """Put the first rack where its first entry belongs now."""
        if rack.heap:
            heapq.heapreplace(self._heap, (rack.heap[0][0], rack.number, rack))
        else:
            heapq.heappop(self._heap)

    def _entry(self, index: int, place: int) -> _Entry:
        return rank(self._lanes[index][1][place], self._now, self._policy), index, place
