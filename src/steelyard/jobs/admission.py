"""Admission: the scheduler's decisions carried into the database, by one leader at a time."""

import asyncio
import contextlib
import gc
import json
import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.queue_mirror import Crowd, QueueMirror
from steelyard.compute.scheduler import Decisions, Nomination, Preemption, decide
from steelyard.compute.settings import read_settings, scheduler_policy
from steelyard.compute.snapshots import Picture, read_picture
from steelyard.governance.ledger.accounting import open_places
from steelyard.governance.ledger.meters import DEFAULT_LEASE
from steelyard.jobs.places import ask_all_to_leave, take_places
from steelyard.kit.clock import Clock, utc_now
from steelyard.specs.states import Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import FlavorRow, NodeRow, NominationRow

_LEADER_LOCK = 7_316_111
_GRANTS_PER_ROUND = 128
_EXPLAINED_POSITIONS = 20
_FOLLOWING_SECONDS = 10.0
_REASONS_PER_ROUND = 100
"""Where a round writes other rows, it tells so many fewer that are far back."""


@dataclass(frozen=True)
class RoundReport:
    """What a round did, and how long its parts took in seconds. `led` is false where another leads."""

    led: bool
    queued: int = 0
    grants: int = 0
    preemptions: int = 0
    more: bool = False
    """Whether there was more to grant than one round carries out; the next may follow at once."""
    read_seconds: float = 0.0
    decide_seconds: float = 0.0
    apply_seconds: float = 0.0


class AdmissionService:
    """Rounds of the scheduler.

    A round is one transaction under an advisory lock, so that there is one leader, and a dead one is
    replaced as soon as PostgreSQL misses its connection. All that a leader knows is in the database: the
    next one keeps its promises. What it has in memory of the queue only saves it reading.

    Args:
        database: for the nodes that agents report.
        clock: the moment of a round.
        lease: of the places that are granted.
        rounds: for rounds, best of one connection, on which their statements stay prepared.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock = utc_now,
        lease: timedelta = DEFAULT_LEASE,
        rounds: Database | None = None,
    ) -> None:
        self._database = database
        self._rounds = rounds or database
        self._clock = clock
        self._lease = lease
        self._mirror = QueueMirror()
        self._mirror_in_use = asyncio.Lock()
        self._looked = -math.inf

    async def run_round(self) -> int:
        """Look at the pool and the queue, grant what can be granted; return how many jobs were."""
        return (await self.lead_round()).grants

    async def lead_round(self) -> RoundReport:
        """As `run_round`; returns all that it did. Who doesn't lead learns what is new in the queue."""
        async with self._rounds.transaction() as session:
            leads = await session.scalar(
                text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LEADER_LOCK}
            )
            if not leads:
                await self._follow(session)
                return RoundReport(led=False)
            async with self._mirror_in_use:
                with _collecting_no_garbage():
                    return await self._lead(session)

    async def look(self) -> None:
        """Read and decide, and do nothing; needs no lead. Who has done so leads its first round about as
        quickly as any, whenever the leader of now is gone."""
        async with self._rounds.transaction() as session, self._mirror_in_use:
            policy = scheduler_policy((await read_settings(session)).policy)
            picture = await read_picture(session, self._clock(), policy, mirror=self._mirror)
            decisions = decide(picture.snapshot)
            decisions.first_waiting(_EXPLAINED_POSITIONS)
            self._looked = time.monotonic()

    async def _lead(self, session: AsyncSession) -> RoundReport:
        now, began = self._clock(), time.perf_counter()
        policy = scheduler_policy((await read_settings(session)).policy)
        picture = await read_picture(session, now, policy, mirror=self._mirror)
        read = time.perf_counter()
        decisions = decide(picture.snapshot)
        decided = time.perf_counter()
        granted = await _apply(session, picture, decisions, now, self._lease)
        return RoundReport(
            led=True,
            queued=len(picture.snapshot.queued),
            grants=granted,
            preemptions=len(decisions.preemptions),
            more=len(decisions.grants) > _GRANTS_PER_ROUND,
            read_seconds=read - began,
            decide_seconds=decided - read,
            apply_seconds=time.perf_counter() - decided,
        )

    async def _follow(self, session: AsyncSession) -> None:
        if self._mirror_in_use.locked() or time.monotonic() - self._looked < _FOLLOWING_SECONDS:
            return
        async with self._mirror_in_use:
            await self._mirror.refresh(session)
            self._looked = time.monotonic()

    async def report_node(
        self,
        name: str,
        executor: str,
        cpus: int,
        memory_bytes: int,
        gpu_ids: tuple[str, ...],
        flavor: str,
        *,
        simulated: bool = False,
        agent_started_at: datetime | None = None,
    ) -> None:
        """Note that a node is there, and what it has. Its agent says so again and again.

        A node that was taken away is back when an agent reports that has started after that.
        """
        values: dict[str, Any] = {
            "executor": executor,
            "flavor": flavor,
            "simulated": simulated,
            "cpus": cpus,
            "memory_bytes": memory_bytes,
            "gpu_ids": list(gpu_ids),
            "last_seen_at": self._clock(),
            "agent_started_at": agent_started_at,
        }
        async with self._database.transaction() as session:
            await session.execute(upsert(FlavorRow).values(name=flavor).on_conflict_do_nothing())
            await session.execute(
                upsert(NodeRow)
                .values(name=name, **values)
                .on_conflict_do_update(index_elements=["name"], set_=values)
            )
            if agent_started_at is not None:
                await session.execute(_BACK, {"name": name, "started": agent_started_at})


@contextlib.contextmanager
def _collecting_no_garbage() -> Generator[None]:
    """Let a round not wait for a collection over all that the process holds; it comes right after."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_BACK = text(
    "UPDATE nodes SET interruption_deadline = NULL, interruption_reason = NULL"
    " WHERE name = :name AND interruption_deadline < :started"
)
_PROMISES = text(
    """
    INSERT INTO nominations (job_id, project_id, nodes, since)
    SELECT job.id, job.project_id, CAST(given.nodes AS JSONB), :now
    FROM unnest(CAST(:ids AS TEXT[]), CAST(:nodes AS TEXT[])) AS given(id, nodes)
    JOIN jobs job ON job.id = given.id
    ON CONFLICT (job_id) DO UPDATE SET nodes = excluded.nodes
    """
)
_WAYS = text(
    """
    INSERT INTO preemptions (job_id, for_job_id, project_id, reason, at)
    SELECT job_id, for_job_id, project_id, reason, :now
    FROM unnest(CAST(:ids AS TEXT[]), CAST(:for_ids AS TEXT[]), CAST(:projects AS TEXT[]),
        CAST(:reasons AS TEXT[])) AS given(job_id, for_job_id, project_id, reason)
    ON CONFLICT (job_id, for_job_id) DO UPDATE SET at = excluded.at
    """
)
_REASONS = text(
    """
    UPDATE jobs SET status_reason = told.reason, status_message = told.message
    FROM (
        SELECT job.id, given.reason, given.message
        FROM unnest(CAST(:ids AS TEXT[]), CAST(:reasons AS TEXT[]), CAST(:messages AS TEXT[]))
            AS given(id, reason, message)
        JOIN jobs job ON job.id = given.id
        WHERE job.state = 'queued' AND (job.status_reason IS DISTINCT FROM given.reason
            OR job.status_message IS DISTINCT FROM given.message)
        ORDER BY job.id FOR UPDATE OF job SKIP LOCKED
    ) told WHERE jobs.id = told.id
    """
)


async def _apply(
    session: AsyncSession, picture: Picture, decisions: Decisions, now: datetime, lease: timedelta
) -> int:
    """Carry decisions out; return how many jobs got a place.

    Where there is more to grant than one round takes, the rest and all that follows from it is left to the
    next round, which decides anew.
    """
    grants = decisions.grants[:_GRANTS_PER_ROUND]
    taken = await take_places(session, grants, now)
    await open_places(session, taken, now, lease)
    if len(decisions.grants) > _GRANTS_PER_ROUND:
        return len(taken)
    await _keep_promises(session, picture.nominations, decisions.nominations, now)
    await _preempt(session, decisions.preemptions, now)
    await _tell_reasons(session, picture.crowds, decisions)
    return len(taken)


async def _keep_promises(
    session: AsyncSession,
    before: Mapping[str, tuple[str, ...]],
    nominations: Iterable[Nomination],
    now: datetime,
) -> None:
    """Write down which nodes are being emptied for whom, and forget what stands no more."""
    promised = {item.job_id: item.nodes for item in nominations}
    forgotten = [job_id for job_id in before if job_id not in promised]
    if forgotten:
        await session.execute(delete(NominationRow).where(NominationRow.job_id.in_(forgotten)))
    new = {job_id: nodes for job_id, nodes in promised.items() if before.get(job_id) != nodes}
    if new:
        nodes = [json.dumps(each) for each in new.values()]
        await session.execute(_PROMISES, {"ids": list(new), "nodes": nodes, "now": now})


async def _preempt(session: AsyncSession, preemptions: Sequence[Preemption], now: datetime) -> None:
    """Ask running jobs to save and leave; they go back into the queue by themselves."""
    if not preemptions:
        return
    messages = {
        each.job_id: f"makes room for another job ({_WORDS[each.reason]}); it saves and is queued again"
        for each in preemptions
    }
    asked = await ask_all_to_leave(session, messages, Reason.PREEMPTED, now)
    made = [each for each in preemptions if each.job_id in asked]
    if made:
        values = {
            "ids": [each.job_id for each in made],
            "for_ids": [each.for_job for each in made],
            "projects": [asked[each.job_id] for each in made],
            "reasons": [each.reason.value for each in made],
            "now": now,
        }
        await session.execute(_WAYS, values)


_WORDS = {
    "reclaim": "its project has lent it what it holds beyond its quota, and the owner needs that",
    "fair_share": "its project holds more than its share",
    "priority": "of a higher priority in the same project",
    "turn": "of the same project, which has not had its turn; this one has",
    "lent_turn": "which has not had its turn; this one has, beyond its project's quota",
}


async def _tell_reasons(session: AsyncSession, crowds: Iterable[Crowd], decisions: Decisions) -> None:
    """Write why jobs wait: with its place for the head of the line; further back, where the reason is new.

    Further back places shift all the time; `explain` works them out when somebody asks.
    """
    head = decisions.first_waiting(_EXPLAINED_POSITIONS)
    told = {item.job_id: (item.code.value, item.sentence) for item in head}
    gone = {grant.job_id for grant in decisions.grants}
    left = _REASONS_PER_ROUND - len(decisions.grants) - len(decisions.preemptions)
    for crowd in crowds:
        cause = decisions.explanation.cause(crowd.lane)
        for reason, names in crowd.told.items():
            if left > 0 and reason != cause.code:
                ids = islice((name for name in names if name not in gone and name not in told), left)
                new = dict.fromkeys(ids, (cause.code.value, cause.sentence))
                told |= new
                left -= len(new)
    if told:
        reasons, messages = zip(*told.values(), strict=True)
        await session.execute(
            _REASONS, {"ids": list(told), "reasons": list(reasons), "messages": list(messages)}
        )
