"""The ledger's transactions, as values. Pure: whoever makes one posts it through the repository."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from steelyard.governance.ledger.amounts import Amount, cost_of, seconds_of
from steelyard.governance.ledger.meters import Meter, Share


class Account(StrEnum):
    """Where amounts are. All come from `allowance`, whose balance is never above zero."""

    ALLOWANCE = "allowance"
    RESERVED = "reserved"
    SPENT = "spent"


@dataclass(frozen=True)
class Posting:
    """One line. `day`, `flavor` and price belong to what was spent."""

    account: Account
    amount: Amount
    day: date | None = None
    flavor: str | None = None
    price_per_gpu_hour: Decimal | None = None


@dataclass(frozen=True)
class Transaction:
    """An act. `id` is made from what it is for and nothing else."""

    id: str
    kind: Literal["reserve", "meter", "release"]
    project_id: str
    job_id: str
    reservation_id: str
    postings: tuple[Posting, ...]
    attempt_id: str | None = None
    covers: tuple[datetime, datetime] | None = None

    @property
    def used(self) -> list[tuple[date, Amount]]:
        """What it adds to the spent account, by day."""
        return [(posting.day, posting.amount) for posting in self.postings if posting.day is not None]


def reserve(project_id: str, job_id: str, order: str, amount: Amount) -> Transaction:
    """Hold an amount for a job.

    Args:
        project_id: whose budget.
        job_id: for which job.
        order: what asked for it, unique within the job: `<run>:<command>`.
        amount: how much.
    """
    postings = (Posting(Account.ALLOWANCE, -amount), Posting(Account.RESERVED, amount))
    return Transaction(f"reserve:{job_id}:{order}", "reserve", project_id, job_id, job_id, postings)


def release(project_id: str, job_id: str, reserves: int, remaining: Amount) -> Transaction:
    """Give back what a job's reservation still holds.

    Args:
        project_id: whose budget.
        job_id: whose reservation.
        reserves: how often something was reserved for it; each of them can be released once.
        remaining: how much is left.
    """
    postings = (Posting(Account.RESERVED, -remaining), Posting(Account.ALLOWANCE, remaining))
    return Transaction(f"release:{job_id}:{reserves}", "release", project_id, job_id, job_id, postings)


def meter(
    meter: Meter,
    covers: tuple[datetime, datetime],
    prices: Mapping[str, Decimal],
    reserved: Amount,
) -> Transaction | None:
    """Turn a span of an attempt's use into money and GPU-seconds; None where it costs nothing.

    What is spent comes out of the reservation while that lasts, and out of the allowance beyond it.

    Args:
        meter: the attempt's, before this span.
        covers: the span; at midnight UTC it is split, so that each line belongs to one day.
        prices: flavor -> price of a GPU-hour now; a flavor that isn't there is free.
        reserved: what the reservation still holds.
    """
    lines = [
        Posting(
            Account.SPENT,
            cost_of(share.gpus, seconds_of(until - since), prices.get(share.flavor, Decimal(0))),
            since.date(),
            share.flavor,
            prices.get(share.flavor, Decimal(0)),
        )
        for since, until in _by_day(*covers)
        for share in _charged(meter.shares)
    ]
    spent = total(line.amount for line in lines)
    if spent.is_zero:
        return None
    drawn = spent.at_most(reserved)
    beyond = spent - drawn
    sources = [Posting(Account.RESERVED, -drawn), Posting(Account.ALLOWANCE, -beyond)]
    return Transaction(
        id=f"meter:{meter.attempt_id}:{meter.ticks + 1}",
        kind="meter",
        project_id=meter.project_id,
        job_id=meter.job_id,
        reservation_id=meter.reservation_id,
        postings=(*(source for source in sources if not source.amount.is_zero), *lines),
        attempt_id=meter.attempt_id if meter.kind == "attempt" else None,
        covers=covers,
    )


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum of amounts."""
    return sum(amounts, Amount())


def _charged(shares: Sequence[Share]) -> list[Share]:
    return [share for share in shares if share.gpus > 0]


def _by_day(since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Split a span at each midnight of UTC."""
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    pieces: list[tuple[datetime, datetime]] = []
    while since < until:
        midnight = datetime.combine(since.date() + timedelta(days=1), datetime.min.time(), UTC)
        pieces.append((since, min(until, midnight)))
        since = pieces[-1][1]
    return pieces
