"""The waiting jobs as one process has them in memory, brought up to date by what has changed since it looked.

The table `queue_entries` (migration 0019) has a short row for each job, with the transaction that wrote it
last. A transaction that a snapshot did not see is never older than that snapshot's `xmin`, so all that has
changed since is in the rows with `changed >= xmin`; those among them that were seen already are read again,
which changes nothing. A restarted or other server is told by its start, and then everything is read anew.
"""

import json
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.scheduler import JobQueue, QueuedJob, SpotPolicy
from steelyard.compute.scheduler.queue import Arrivals, Lane, Shape, lane_of

_COLUMNS = """
    SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS seen_before,
        pg_postmaster_start_time() AS server_started,
        COALESCE(array_agg(job_id), '{}') AS ids, array_agg(wants AND places = 0) AS waiting,
        array_agg(lane) AS lanes, array_agg(moment) AS moments, array_agg(status_reason) AS reasons,
        array_agg(array_to_string(way_for, ' ')) AS way_for
    FROM queue_entries
"""
_ALL = text(f"{_COLUMNS} WHERE wants AND places = 0")
# Rows of a dump that was restored may carry numbers that are not reached yet: they have not changed since.
_CHANGED = text(
    f"""{_COLUMNS} WHERE changed >= CAST(CAST(:seen_before AS TEXT) AS XID8)
        AND changed < pg_snapshot_xmax(pg_current_snapshot())"""
)
_NEVER = datetime.min.replace(tzinfo=UTC)
_Row = tuple[str, bool, str, float, str | None, str]


@dataclass(slots=True)
class Crowd:
    """All waiting jobs of one project and shape: why they wait is the same for each."""

    lane: Lane
    """Any of its lanes."""
    told: dict[str | None, dict[str, None]] = field(default_factory=dict[str | None, dict[str, None]])
    """The jobs by the reason that their rows give at present."""


@dataclass(slots=True)
class _Line:
    """The jobs of one lane."""

    lane: Lane
    pattern: QueuedJob
    crowd: Crowd
    keys: set[tuple[str, str]]
    arrived: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])


class _Entry(NamedTuple):
    line: _Line
    moment: float
    reason: str | None


class QueueMirror:
    """What waits. Belongs to one task at a time; what `queue` returns is good until the next `refresh`."""

    def __init__(self) -> None:
        self._seen_before = ""
        """Transactions below this number are in here; empty: nothing is."""
        self._server_started = _NEVER
        self._entries: dict[str, _Entry] = {}
        self._lines: dict[Lane, _Line] = {}
        self._line_of: dict[tuple[str, str], _Line] = {}
        self._lanes: dict[Lane, Sequence[QueuedJob]] = {}
        self._crowds: dict[tuple[str, Shape], Crowd] = {}

    async def refresh(self, session: AsyncSession) -> None:
        """Take in what has changed.

        Args:
            session: a transaction that sees every project and has written nothing yet: what it writes must
                not be in here if it is rolled back.
        """
        if not self._seen_before:
            await self._read_all(session)
            return
        row = (await session.execute(_CHANGED, {"seen_before": self._seen_before})).one()
        if row.server_started != self._server_started:
            await self._read_all(session)
            return
        # Whoever is interrupted half-way reads everything the next time.
        self._seen_before = ""
        self._change(_rows(row))
        self._seen_before = row.seen_before

    async def _read_all(self, session: AsyncSession) -> None:
        row = (await session.execute(_ALL)).one()
        self._seen_before = ""
        for held in (self._entries, self._lines, self._line_of, self._lanes, self._crowds):
            held.clear()
        self._fill(_rows(row))
        self._seen_before, self._server_started = row.seen_before, row.server_started

    def queue(self, nominations: Mapping[str, tuple[str, ...]]) -> JobQueue:
        """Return the queue, in which those have a claim who have been promised nodes."""
        claims: list[QueuedJob] = []
        lines: dict[Lane, _Line] = {}
        for job_id, nodes in nominations.items():
            entry = self._entries.get(job_id)
            if entry is not None:
                line, moment = entry.line, entry.moment
                job = replace(line.pattern, id=job_id, submitted_seconds=moment, nominated_nodes=nodes)
                claims.append(job)
                lines[line.lane] = line
        if not claims:
            return JobQueue(self._lanes)
        lanes = self._lanes.copy()
        for lane, line in lines.items():
            rest = [each for each in line.arrived if each[1] not in nominations]
            if rest:
                lanes[lane] = Arrivals(line.pattern, rest)
            else:
                del lanes[lane]
        lanes.update(JobQueue.of(claims).lanes)
        return JobQueue(lanes)

    def crowds(self) -> Iterable[Crowd]:
        """Return all crowds, none of which is empty."""
        return self._crowds.values()

    def _fill(self, found: Iterable[_Row]) -> None:
        for job_id, waiting, lane, moment, reason, way_for in found:
            if waiting:
                line = self._find_line(lane, way_for)
                line.arrived.append((moment, job_id))
                self._note(job_id, _Entry(line, moment, reason))
        for line in self._lines.values():
            line.arrived.sort()
            self._lanes[line.lane] = Arrivals(line.pattern, line.arrived)

    def _change(self, found: Iterable[_Row]) -> None:
        for job_id, waiting, lane, moment, reason, way_for in found:
            before = self._entries.get(job_id)
            if before is not None:
                same = waiting and before.moment == moment and (lane, way_for) in before.line.keys
                if same:
                    self._drop_note(job_id, before)
                    self._note(job_id, before._replace(reason=reason))
                    continue
                self._leave(job_id, before)
            if waiting:
                self._join(job_id, _Entry(self._find_line(lane, way_for), moment, reason))

    def _join(self, job_id: str, entry: _Entry) -> None:
        line = entry.line
        insort(line.arrived, (entry.moment, job_id))
        self._lanes[line.lane] = Arrivals(line.pattern, line.arrived)
        self._note(job_id, entry)

    def _leave(self, job_id: str, entry: _Entry) -> None:
        self._drop_note(job_id, entry)
        line = entry.line
        del line.arrived[bisect_left(line.arrived, (entry.moment, job_id))]
        if line.arrived:
            self._lanes[line.lane] = Arrivals(line.pattern, line.arrived)
            return
        del self._lines[line.lane], self._lanes[line.lane]
        for key in line.keys:
            del self._line_of[key]
        if not line.crowd.told:
            del self._crowds[line.lane.project, line.lane.shape]

    def _note(self, job_id: str, entry: _Entry) -> None:
        self._entries[job_id] = entry
        entry.line.crowd.told.setdefault(entry.reason, {})[job_id] = None

    def _drop_note(self, job_id: str, entry: _Entry) -> None:
        del self._entries[job_id]
        crowd = entry.line.crowd
        del crowd.told[entry.reason][job_id]
        if not crowd.told[entry.reason]:
            del crowd.told[entry.reason]

    def _find_line(self, lane_text: str, way_for: str) -> _Line:
        key = (lane_text, way_for)
        line = self._line_of.get(key)
        if line is None:
            pattern = _pattern(lane_text, way_for)
            lane = lane_of(pattern)
            line = self._lines.get(lane)
            if line is None:
                line = self._lines[lane] = _Line(lane, pattern, self._find_crowd(lane), set())
            line.keys.add(key)
            self._line_of[key] = line
        return line

    def _find_crowd(self, lane: Lane) -> Crowd:
        key = lane.project, lane.shape
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = Crowd(lane)
        return crowd


def _rows(row: Row[Any]) -> Iterable[_Row]:
    if not row.ids:
        return ()
    return zip(row.ids, row.waiting, row.lanes, row.moments, row.reasons, row.way_for, strict=True)


def _pattern(lane: str, way_for: str) -> QueuedJob:
    """Return the job that a row of `queue_entries` describes, without its id and moment."""
    (project, priority, gpus, cpus, memory_bytes, nodes, flavors, spot, price_cap, seconds_left,
        is_last_launch, ran_seconds) = json.loads(lane)  # fmt: skip
    return QueuedJob(
        id="",
        project=project,
        submitted_seconds=0.0,
        cpus=cpus,
        memory_bytes=memory_bytes,
        gpus=gpus,
        nodes=nodes,
        priority=priority,
        flavors=tuple(flavors),
        spot=SpotPolicy(spot),
        max_price_per_gpu_hour=price_cap,
        retries_left=0 if is_last_launch else 1,
        max_runtime_seconds=None if seconds_left is None else float(seconds_left),
        ran_seconds=float(ran_seconds),
        made_way_for=tuple(way_for.split()),
    )
