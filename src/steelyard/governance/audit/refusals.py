"""Refused acts on record, without giving a flood of them the disk.

The act's own transaction is rolled back, so a refusal is written in one of its own, before the caller gets an
answer. Beyond a rate they are only counted, and a row of the count follows.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from steelyard.governance.audit.recording import record
from steelyard.governance.identity import Actor
from steelyard.kit.errors import SteelyardError
from steelyard.storage.database import Database

ANONYMOUS_ID = "-"
SUMMARY_VERB = "audit.count_refusals"
_SUMMARY_SECONDS = 10.0
_WRITE_SECONDS = 2.0
_MOST_SOURCES = 4096
_NAMED_SOURCES = 10
_LONGEST_TEXT = 200
_log = structlog.get_logger()


@dataclass(frozen=True)
class Refusal:
    """An act that was not done. All of its text may come from an enemy."""

    actor: Actor
    verb: str
    object_kind: str
    object_id: str
    project_id: str | None
    status: int
    code: str
    """Machine code of the error."""
    param: str | None


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second after that."""

    burst: float
    per_second: float


class RefusalLimiter:
    """Two token buckets: one for each source and actor, one for all together.

    Args:
        each: bound for one source and actor.
        all_together: bound for the process; it is what bounds the disk. The default, 2 a second, lets an
            endless flood write some 100 MB a day.
        clock: seconds from any start.
    """

    def __init__(
        self,
        each: Rate = Rate(10, 1),
        all_together: Rate = Rate(100, 2),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._each = each
        self._all_together = _Bucket(all_together, clock())
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._suppressed: Counter[str] = Counter()
        self._suppressed_total = 0

    def admits(self, source: str, actor: str) -> bool:
        """Whether this refusal gets a row of its own; else it is counted."""
        now = self._clock()
        if self._bucket(f"{source} {actor}", now).take(now) and self._all_together.take(now):
            return True
        self._suppressed_total += 1
        if source in self._suppressed or len(self._suppressed) < _MOST_SOURCES:
            self._suppressed[source] += 1
        return False

    def take_count(self) -> tuple[int, dict[str, int]]:
        """Return how many were only counted since the last call, and of which sources most; begin anew."""
        count, sources = self._suppressed_total, dict(self._suppressed.most_common(_NAMED_SOURCES))
        self._suppressed_total = 0
        self._suppressed.clear()
        return count, sources

    def _bucket(self, key: str, now: float) -> "_Bucket":
        bucket = self._buckets.pop(key, None) or _Bucket(self._each, now)
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_SOURCES:
            self._buckets.popitem(last=False)
        return bucket


class RefusalRecorder:
    """Writes refusals. Belongs to one event loop; `close` writes the last count."""

    def __init__(
        self,
        database: Database,
        limiter: RefusalLimiter | None = None,
        summary_seconds: float = _SUMMARY_SECONDS,
    ) -> None:
        self._database = database
        self._limiter = limiter or RefusalLimiter()
        self._summary_seconds = summary_seconds
        self._summary: asyncio.Task[None] | None = None

    async def record(self, refusal: Refusal) -> None:
        """Put a refusal on record. Never raises: the answer goes out whether or not this could be written."""
        actor = refusal.actor
        if not self._limiter.admits(actor.source or "", f"{actor.kind}:{actor.id}"):
            if self._summary is None or self._summary.done():
                self._summary = asyncio.create_task(self._summarize_later())
            return
        await self._write(refusal)

    async def close(self) -> None:
        """Write the count that is still to be written."""
        if self._summary is not None:
            self._summary.cancel()
            await asyncio.gather(self._summary, return_exceptions=True)
        await self._summarize()

    async def _summarize_later(self) -> None:
        await asyncio.sleep(self._summary_seconds)
        await self._summarize()

    async def _summarize(self) -> None:
        count, sources = self._limiter.take_count()
        if not count:
            return
        try:
            async with self._database.transaction() as session:
                await record(
                    session, Actor("system", "audit"), SUMMARY_VERB, "request", "refused",
                    outcome="refused", detail={"count": count, "sources": sources},
                )  # fmt: skip
        except (SteelyardError, SQLAlchemyError) as error:
            _log.error("a count of refusals is lost", count=count, error=str(error))

    async def _write(self, refusal: Refusal) -> None:
        detail = {"status": refusal.status, "code": refusal.code, "param": refusal.param}
        try:
            async with asyncio.timeout(_WRITE_SECONDS), self._database.transaction() as session:
                await record(
                    session,
                    refusal.actor,
                    _short(refusal.verb),
                    _short(refusal.object_kind),
                    _short(refusal.object_id),
                    project_id=None if refusal.project_id is None else _short(refusal.project_id),
                    detail={name: _short(str(value)) for name, value in detail.items() if value is not None},
                    outcome="refused",
                )
        except (SteelyardError, SQLAlchemyError, TimeoutError) as error:
            _log.error("a refusal is not on record", verb=refusal.verb, error=str(error))


class _Bucket:
    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        grown = self._tokens + (now - self._filled_at) * self._rate.per_second
        self._tokens, self._filled_at = min(self._rate.burst, grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _short(text: str) -> str:
    # PostgreSQL's text has no NUL and no half of a surrogate pair.
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return clean[:_LONGEST_TEXT]
