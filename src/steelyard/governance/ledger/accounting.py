"""What services of the layers above do to the ledger, each inside its caller's transaction.

The head of a project's ledger is the last lock that a transaction takes, so call these last. Each may be
called again: what stands already is not posted twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.ledger import postings, repository
from steelyard.governance.ledger.amounts import Amount, cost_of, seconds_of
from steelyard.governance.ledger.demand import Demand, Price
from steelyard.governance.ledger.meters import Meter, Share
from steelyard.governance.ledger.prices import prices_of
from steelyard.governance.ledger.standing import Standing
from steelyard.specs.budgets import Unit

_SPAN = timedelta(seconds=1)
_ANYTHING = Amount(Decimal(1), Decimal(1))


@dataclass(frozen=True)
class Tick:
    """What a tick found. `exhausted` is the unit of the budget that is used up, with the standing's words."""

    job_id: str
    leased_until: datetime
    exhausted: Unit | None
    standing: Standing


async def reserve(
    session: AsyncSession,
    project_id: str,
    job_id: str,
    order: str,
    demand: Demand,
    price: Price,
    now: datetime,
) -> Amount:
    """Hold what a job may use, and return it.

    Args:
        session: the transaction of the act that asks.
        project_id: whose budget.
        job_id: for which job.
        order: what asked, unique within the job.
        demand: how much at most.
        price: of a GPU-hour, at most.
        now: the moment, which says in which period.

    Raises:
        BudgetExceeded: it doesn't fit; the details have the numbers.
    """
    amount = demand.amount(price.per_gpu_hour)
    if amount.is_zero:
        return amount
    standing = await repository.standing_of(session, project_id, now, lock=True)
    refusal = standing.refusal(demand, price.per_gpu_hour)
    transaction = postings.reserve(project_id, job_id, order, amount)
    if refusal is None:
        await repository.post(session, transaction)
    elif not await repository.is_posted(session, transaction.id):
        raise refusal
    return amount


async def draw_on(session: AsyncSession, project_id: str, child_id: str, parent_id: str) -> None:
    """Let a child job use its parent's reservation, in place of one of its own."""
    root = await repository.reservation_of(session, parent_id)
    await repository.add_draw(session, project_id, child_id, root)


async def release(session: AsyncSession, project_id: str, job_id: str, now: datetime) -> None:
    """Give back what a job's own reservation still holds. A child's is its parent's to give back."""
    if (await repository.find_reservation(session, job_id)).remaining.is_zero:
        return
    await repository.standing_of(session, project_id, now, lock=True)
    held = await repository.find_reservation(session, job_id)
    if not held.remaining.is_zero:
        await repository.post(session, postings.release(project_id, job_id, held.reserves, held.remaining))


async def open_meter(
    session: AsyncSession,
    project_id: str,
    job_id: str,
    attempt_id: str,
    shares: tuple[Share, ...],
    now: datetime,
    lease: timedelta,
) -> None:
    """Begin to meter an attempt. One that holds no GPU has no meter: it costs nothing."""
    if not any(share.gpus for share in shares):
        return
    reservation_id = await repository.reservation_of(session, job_id)
    meter = Meter(attempt_id, project_id, job_id, reservation_id, shares, now, now + lease, 0)
    await repository.add_meter(session, meter)


async def open_places(session: AsyncSession, jobs: Iterable[str], now: datetime, lease: timedelta) -> None:
    """Begin to meter places that were just granted; those without GPUs cost nothing.

    Where the budget is used up already there is no lease, so nothing is charged beyond what it bounds.
    """
    granted = list(jobs)
    if not granted:
        return
    standings = await repository.budgeted_standings(session, granted, now)
    exhausted = [each.project_id for each in standings if each.exhausted(_ANYTHING) is not None]
    await repository.add_place_meters(session, granted, now, now + lease, exhausted)


async def end_attempt(session: AsyncSession, attempt_id: str, now: datetime) -> None:
    """Post an attempt's use for the last time, and from then on that of its place, if its job holds one still
    and has no newer attempt: under the lease that the attempt had, so that an end is no renewal."""
    meter = await repository.lock_meter(session, attempt_id)
    if meter is None:
        return
    if await repository.is_current_attempt(session, meter.job_id, attempt_id):
        await repository.add_place_meters(session, [meter.job_id], now, max(now, meter.leased_until))
    await tick(session, attempt_id, now, closing=True)


async def leave_places(session: AsyncSession, job_id: str, now: datetime) -> None:
    """Let the metering of a job's place end now, because it is given back or an attempt begins.

    Takes no head, so it can stand anywhere in a transaction; `settle_places` or the worker's housekeeping
    posts what is left.
    """
    await repository.leave_place_meters(session, job_id, now)


async def settle_places(session: AsyncSession, job_id: str, now: datetime) -> None:
    """Post the last seconds of the places that a job has left."""
    for meter_id in await repository.left_place_meters(session, job_id):
        await tick(session, meter_id, now, closing=True)


async def tick(
    session: AsyncSession,
    attempt_id: str,
    now: datetime,
    *,
    renewing: timedelta | None = None,
    closing: bool = False,
) -> Tick | None:
    """Post an attempt's use since the last posted moment; None where nothing is metered (any more).

    Args:
        session: a transaction that holds no head yet.
        attempt_id: whose use.
        now: up to which moment; the lease may end sooner.
        renewing: the attempt lives, or the place is held: its lease begins anew and is so long, unless the
            budget has run out.
        closing: the attempt has ended: nothing is posted for it after this.
    """
    meter = await repository.lock_meter(session, attempt_id)
    if meter is None:
        return None
    prices = await prices_of(session, [share.flavor for share in meter.shares])
    rate = postings.total(
        cost_of(share.gpus, seconds_of(_SPAN), prices.get(share.flavor, Decimal(0))) for share in meter.shares
    )
    covers = meter.due(now)
    standing = await repository.standing_of(session, meter.project_id, now, lock=covers is not None)
    if covers is not None:
        reserved = (await repository.find_reservation(session, meter.reservation_id)).remaining
        transaction = postings.meter(meter, covers, prices, reserved)
        if transaction is not None and await repository.post(session, transaction):
            standing = standing.after(transaction.used)
        meter = meter.posted(covers[1])
    exhausted = standing.exhausted(rate)
    # A place may have been given back since somebody wanted to renew it.
    left = meter.kind == "left"
    if renewing is not None and exhausted is None and not left:
        meter = meter.renewed(now, renewing)
    await repository.save_meter(session, meter, closed=closing or left)
    return Tick(meter.job_id, meter.leased_until, exhausted, standing)


async def exhausted_by(
    session: AsyncSession, project_id: str, demand: Demand, price: Price, now: datetime
) -> str | None:
    """Return in words why a job of this kind may not run now, or None where the budget allows it."""
    standing = await repository.standing_of(session, project_id, now)
    unit = standing.exhausted(demand.amount(price.per_gpu_hour))
    return standing.sentence(unit) if unit is not None else None
