"""All SQL of the ledger. Whoever posts for a project holds the lock of its head, taken last of all locks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import Row, Select, case, cast, column, func, insert, select, text, true, update, values
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.meters import Meter, MeterKind, Share
from steelyard.governance.ledger.periods import Period, day_of, period_of
from steelyard.governance.ledger.postings import Transaction
from steelyard.governance.ledger.standing import Crossing, Standing
from steelyard.kit.ids import new_id
from steelyard.specs.budgets import BudgetSpec, LedgerEntry, LedgerLine
from steelyard.storage.tables import (
    AttemptMeterRow,
    BudgetCrossingRow,
    BudgetRow,
    JobRow,
    LedgerDayRow,
    LedgerDrawRow,
    LedgerHeadRow,
    LedgerPostingRow,
    LedgerReservationRow,
    LedgerTransactionRow,
    ProjectRow,
)

View = TypeVar("View", bound=BaseModel)
_LINES = {
    name: LedgerPostingRow.__table__.columns[name]
    for name in ("line", "account", "day", "flavor", "gpu_seconds", "money", "price_per_gpu_hour")
}
_FIELDS = tuple(BudgetSpec.model_fields)


@dataclass(frozen=True)
class Reservation:
    """What a job still holds, and how often something was reserved for it."""

    remaining: Amount
    reserves: int


async def standing_of(
    session: AsyncSession, project_id: str, now: datetime, *, lock: bool = False
) -> Standing:
    """Return where a project stands; with `lock`, so that nobody else posts before this transaction ends."""
    if lock:
        # A statement of its own: one that waits for a lock sees all other tables as they were before.
        await _lock_head(session, project_id)
    row = (await session.execute(_standing_query(now).where(ProjectRow.id == project_id))).one()
    return _standing(row, now)


async def budgeted_standings(session: AsyncSession, jobs: Sequence[str], now: datetime) -> list[Standing]:
    """Return where those projects stand that have a budget, and that some of these jobs are of."""
    projects = select(JobRow.project_id).where(JobRow.id.in_(jobs))
    query = _standing_query(now).where(ProjectRow.id.in_(projects), BudgetRow.project_id.is_not(None))
    return [_standing(row, now) for row in await session.execute(query)]


def _standing(row: Row[BudgetRow, Decimal, Decimal, Any, Any, str], now: datetime) -> Standing:
    stored: BudgetRow | None = row[0]
    budget = budget_spec(stored) if stored else None
    return Standing(row[5], budget, now, Amount(row[3], row[4]), Amount(row[1], row[2]))


async def _lock_head(session: AsyncSession, project_id: str) -> None:
    query = select(LedgerHeadRow.project_id).where(LedgerHeadRow.project_id == project_id).with_for_update()
    if await session.scalar(query) is not None:
        return
    await session.execute(
        upsert(LedgerHeadRow)
        .values(project_id=project_id, reserved_gpu_seconds=0, reserved_money=0)
        .on_conflict_do_nothing()
    )
    await session.scalar(query)


def _standing_query(now: datetime) -> Select[BudgetRow, Decimal, Decimal, Any, Any, str]:
    """Budget, what is reserved, and what is spent in the budget's present period, in one statement."""
    month, quarter = (period_of(kind, day_of(now)) for kind in ("month", "quarter"))
    first = case(
        (BudgetRow.period == "fixed", BudgetRow.starts_on),
        (BudgetRow.period == "quarter", quarter.first),
        else_=month.first,
    )
    last = case(
        (BudgetRow.period == "fixed", BudgetRow.ends_on),
        (BudgetRow.period == "quarter", quarter.last),
        else_=month.last,
    )
    spent = (
        select(
            func.coalesce(func.sum(LedgerDayRow.gpu_seconds), 0).label("gpu_seconds"),
            func.coalesce(func.sum(LedgerDayRow.money), 0).label("money"),
        )
        .where(LedgerDayRow.project_id == ProjectRow.id, LedgerDayRow.day.between(first, last))
        .lateral("spent")
    )
    return (
        select(
            BudgetRow,
            func.coalesce(LedgerHeadRow.reserved_gpu_seconds, 0),
            func.coalesce(LedgerHeadRow.reserved_money, 0),
            spent.c.gpu_seconds,
            spent.c.money,
            ProjectRow.id,
        )
        .select_from(ProjectRow)
        .outerjoin(LedgerHeadRow, LedgerHeadRow.project_id == ProjectRow.id)
        .outerjoin(BudgetRow, BudgetRow.project_id == ProjectRow.id)
        .join(spent, true())
        .execution_options(populate_existing=True)
    )


async def post(session: AsyncSession, transaction: Transaction) -> bool:
    """Write a transaction; False where it stands already."""
    covers = transaction.covers or (None, None)
    whole = (
        upsert(LedgerTransactionRow)
        .values(
            id=transaction.id,
            project_id=transaction.project_id,
            kind=transaction.kind,
            job_id=transaction.job_id,
            reservation_id=transaction.reservation_id,
            attempt_id=transaction.attempt_id,
            entries=len(transaction.postings),
            covers_from=covers[0],
            covers_until=covers[1],
        )
        .on_conflict_do_nothing()
        .returning(LedgerTransactionRow.id, LedgerTransactionRow.project_id)
        .cte("whole")
    )
    lines = values(*(column(name, _LINES[name].type) for name in _LINES), name="lines").data(
        [
            (
                number,
                posting.account.value,
                posting.day,
                posting.flavor,
                posting.amount.gpu_seconds,
                posting.amount.money,
                posting.price_per_gpu_hour,
            )
            for number, posting in enumerate(transaction.postings)
        ]
    )
    # One statement, because others wait for the head's lock meanwhile.
    statement = (
        insert(LedgerPostingRow)
        .from_select(
            ["transaction_id", "project_id", *_LINES],
            select(
                whole.c.id,
                whole.c.project_id,
                *(cast(lines.c[name], stored.type) for name, stored in _LINES.items()),
            ).select_from(whole.join(lines, true())),
        )
        .returning(LedgerPostingRow.line)
    )
    return bool((await session.scalars(statement)).all())


async def is_posted(session: AsyncSession, transaction_id: str) -> bool:
    """Whether a transaction stands already."""
    query = select(LedgerTransactionRow.id).where(LedgerTransactionRow.id == transaction_id)
    return await session.scalar(query) is not None


async def find_reservation(session: AsyncSession, reservation_id: str) -> Reservation:
    """Return what a reservation still holds; nothing where there never was one."""
    query = select(
        LedgerReservationRow.gpu_seconds, LedgerReservationRow.money, LedgerReservationRow.reserves
    ).where(LedgerReservationRow.id == reservation_id)
    row = (await session.execute(query)).first()
    return Reservation(Amount(row[0], row[1]), row[2]) if row else Reservation(Amount(), 0)


async def open_reservations(session: AsyncSession) -> list[str]:
    """Return ids of all reservations that still hold something."""
    query = select(LedgerReservationRow.id).where(
        (LedgerReservationRow.gpu_seconds != 0) | (LedgerReservationRow.money != 0)
    )
    return list(await session.scalars(query.order_by(LedgerReservationRow.id)))


async def reservation_of(session: AsyncSession, job_id: str) -> str:
    """Return the reservation that a job draws on: another job's, or its own."""
    query = select(LedgerDrawRow.reservation_id).where(LedgerDrawRow.job_id == job_id)
    return await session.scalar(query) or job_id


async def add_draw(session: AsyncSession, project_id: str, job_id: str, reservation_id: str) -> None:
    """Note that a job draws on another's reservation."""
    await session.execute(
        upsert(LedgerDrawRow)
        .values(job_id=job_id, project_id=project_id, reservation_id=reservation_id)
        .on_conflict_do_nothing()
    )


async def add_meter(session: AsyncSession, meter: Meter) -> None:
    """Store a new attempt's meter; one that is there stays as it is."""
    await session.execute(
        upsert(AttemptMeterRow)
        .values(
            attempt_id=meter.attempt_id,
            project_id=meter.project_id,
            job_id=meter.job_id,
            reservation_id=meter.reservation_id,
            shares=[{"flavor": share.flavor, "gpus": share.gpus} for share in meter.shares],
            posted_until=meter.posted_until,
            leased_until=meter.leased_until,
            ticks=meter.ticks,
            closed=False,
        )
        .on_conflict_do_nothing()
    )


async def add_place_meters(
    session: AsyncSession,
    jobs: Sequence[str],
    now: datetime,
    until: datetime,
    without_lease: Sequence[str] = (),
) -> None:
    """Begin to meter the places of some jobs, of those that hold GPUs; of some projects without a lease."""
    await session.execute(
        _ADD_PLACE_METERS,
        {
            "jobs": list(jobs),
            "ids": [new_id("place") for _ in jobs],
            "now": now,
            "until": until,
            "without": list(without_lease),
        },
    )


async def is_current_attempt(session: AsyncSession, job_id: str, attempt_id: str) -> bool:
    """Whether a job has begun no attempt since."""
    query = select(JobRow.id).where(JobRow.id == job_id, JobRow.current_attempt_id == attempt_id)
    return await session.scalar(query) is not None


async def leave_place_meters(session: AsyncSession, job_id: str, now: datetime) -> None:
    """Let what a job's places are charged for end now."""
    await session.execute(
        update(AttemptMeterRow)
        .where(AttemptMeterRow.job_id == job_id, AttemptMeterRow.kind == "place", ~AttemptMeterRow.closed)
        .values(
            kind="left",
            leased_until=func.least(
                AttemptMeterRow.leased_until, func.greatest(AttemptMeterRow.posted_until, now)
            ),
        )
    )


async def left_place_meters(session: AsyncSession, job_id: str) -> list[str]:
    """Return meters of places that a job has given back, whose last seconds aren't posted; locked.

    All at once: who posts the first of them holds the project's head, and must wait for no other after that.
    """
    query = select(AttemptMeterRow.attempt_id).where(
        AttemptMeterRow.job_id == job_id, AttemptMeterRow.kind == "left", ~AttemptMeterRow.closed
    )
    return list(await session.scalars(query.order_by(AttemptMeterRow.attempt_id).with_for_update()))


async def lock_meter(session: AsyncSession, attempt_id: str) -> Meter | None:
    """Return an open meter, locked for change; None where it is closed or there is none."""
    query = select(
        AttemptMeterRow.attempt_id,
        AttemptMeterRow.project_id,
        AttemptMeterRow.job_id,
        AttemptMeterRow.reservation_id,
        AttemptMeterRow.shares,
        AttemptMeterRow.posted_until,
        AttemptMeterRow.leased_until,
        AttemptMeterRow.ticks,
        AttemptMeterRow.kind,
    ).where(AttemptMeterRow.attempt_id == attempt_id, ~AttemptMeterRow.closed)
    row = (await session.execute(query.with_for_update())).first()
    if row is None:
        return None
    shares = tuple(Share(share["flavor"], share["gpus"]) for share in row.shares)
    return Meter(
        row.attempt_id,
        row.project_id,
        row.job_id,
        row.reservation_id,
        shares,
        row.posted_until,
        row.leased_until,
        row.ticks,
        row.kind,
    )


async def save_meter(session: AsyncSession, meter: Meter, *, closed: bool) -> None:
    """Store how far a meter is."""
    await session.execute(
        update(AttemptMeterRow)
        .where(AttemptMeterRow.attempt_id == meter.attempt_id)
        .values(
            posted_until=meter.posted_until,
            leased_until=meter.leased_until,
            ticks=meter.ticks,
            closed=closed,
        )
    )


async def due_meters(session: AsyncSession, before: datetime) -> list[tuple[str, MeterKind]]:
    """Return meters that are to be posted: of attempts whose use is posted up to an earlier moment and whose
    lease reaches further, of places likewise, whatever their lease, and of places that were given back."""
    behind = AttemptMeterRow.posted_until < before
    query = select(AttemptMeterRow.attempt_id, AttemptMeterRow.kind).where(
        ~AttemptMeterRow.closed,
        (AttemptMeterRow.kind == "left")
        | (behind & (AttemptMeterRow.kind == "place"))
        | (behind & (AttemptMeterRow.leased_until > AttemptMeterRow.posted_until)),
    )
    rows = await session.execute(query.order_by(AttemptMeterRow.posted_until))
    return [(row.attempt_id, row.kind) for row in rows]


async def budgeted_projects(session: AsyncSession) -> list[str]:
    """Return the projects that have a budget."""
    return list(await session.scalars(select(BudgetRow.project_id).order_by(BudgetRow.project_id)))


async def note_crossing(session: AsyncSession, project_id: str, period: Period, crossing: Crossing) -> bool:
    """Write down that a limit was passed; False where that stands already for this period and limit."""
    statement = (
        upsert(BudgetCrossingRow)
        .values(
            project_id=project_id,
            starts_on=period.first,
            limit_kind=crossing.kind,
            unit=crossing.unit,
            amount=crossing.amount,
        )
        .on_conflict_do_nothing()
        .returning(BudgetCrossingRow.project_id)
    )
    return await session.scalar(statement) is not None


async def list_entries(
    session: AsyncSession, project_id: str, job_id: str | None, limit: int, before: int | None
) -> list[tuple[int, LedgerEntry]]:
    """Return transactions with their lines, newest first, each with its number."""
    query = select(LedgerTransactionRow).where(LedgerTransactionRow.project_id == project_id)
    if job_id is not None:
        query = query.where(LedgerTransactionRow.job_id == job_id)
    if before is not None:
        query = query.where(LedgerTransactionRow.number < before)
    rows = list(await session.scalars(query.order_by(LedgerTransactionRow.number.desc()).limit(limit)))
    lines: dict[str, list[LedgerLine]] = {row.id: [] for row in rows}
    postings = select(LedgerPostingRow).where(LedgerPostingRow.transaction_id.in_(lines))
    for line in await session.scalars(postings.order_by(LedgerPostingRow.line)):
        lines[line.transaction_id].append(_model(LedgerLine, line))
    return [
        (row.number, _model(LedgerEntry, row).model_copy(update={"lines": lines[row.id]})) for row in rows
    ]


async def imbalances(session: AsyncSession, project_id: str | None = None) -> Sequence[str]:
    """Compare all sums with the postings that they are sums of; return what differs, in words.

    Reads all postings, of one project or of all. What a transaction that isn't over has posted isn't seen.
    """
    return list(await session.scalars(_IMBALANCES, {"project": project_id}))


async def count_transactions(session: AsyncSession, project_id: str) -> int:
    """Return how many transactions a project's ledger has."""
    query = select(func.count()).where(LedgerTransactionRow.project_id == project_id)
    return await session.scalar(query) or 0


def budget_spec(row: BudgetRow) -> BudgetSpec:
    """Return a stored budget as it was given."""
    return BudgetSpec.model_construct(**{name: getattr(row, name) for name in _FIELDS})


def _model(model: type[View], row: object) -> View:
    """Return a row's columns as a model; what isn't a column stays empty."""
    names = model.model_fields.keys() & vars(type(row)).keys()
    return model.model_validate({"lines": [], **{name: getattr(row, name) for name in names}})


_ADD_PLACE_METERS = text(
    """
    INSERT INTO attempt_meters (attempt_id, project_id, job_id, reservation_id, shares, posted_until,
                                leased_until, ticks, closed, kind)
    SELECT given.id, max(part.project_id), part.job_id, max(coalesce(draw.reservation_id, part.job_id)),
           jsonb_agg(jsonb_build_object('flavor', part.flavor, 'gpus', part.gpus) ORDER BY part.flavor),
           CAST(:now AS TIMESTAMPTZ),
           CASE WHEN max(part.project_id) = ANY (CAST(:without AS TEXT[])) THEN :now ELSE :until END,
           0, false, 'place'
    FROM unnest(CAST(:jobs AS TEXT[]), CAST(:ids AS TEXT[])) AS given(job_id, id)
    JOIN (
        SELECT held.job_id, held.project_id, nodes.flavor, sum(jsonb_array_length(held.gpu_ids)) AS gpus
        FROM allocations held JOIN nodes ON nodes.name = held.node
        WHERE held.job_id = ANY (CAST(:jobs AS TEXT[]))
        GROUP BY held.job_id, held.project_id, nodes.flavor
    ) part ON part.job_id = given.job_id AND part.gpus > 0
    LEFT JOIN ledger_draws draw ON draw.job_id = part.job_id
    GROUP BY given.id, part.job_id
    """
)
_IMBALANCES = text(
    """
    WITH lines AS (
        SELECT posting.*, whole.job_id, whole.reservation_id
        FROM ledger_postings posting JOIN ledger_transactions whole ON whole.id = posting.transaction_id
        WHERE CAST(:project AS TEXT) IS NULL OR whole.project_id = :project
    ), heads AS (
        SELECT * FROM ledger_heads WHERE CAST(:project AS TEXT) IS NULL OR project_id = :project
    ), reservations AS (
        SELECT * FROM ledger_reservations WHERE CAST(:project AS TEXT) IS NULL OR project_id = :project
    ), days AS (
        SELECT * FROM ledger_days WHERE CAST(:project AS TEXT) IS NULL OR project_id = :project
    ), usage AS (
        SELECT * FROM ledger_usage WHERE CAST(:project AS TEXT) IS NULL OR project_id = :project
    )
    SELECT 'transaction ' || transaction_id FROM lines
    GROUP BY transaction_id HAVING sum(gpu_seconds) <> 0 OR sum(money) <> 0
    UNION ALL
    SELECT 'head ' || project_id FROM heads head FULL JOIN (
        SELECT project_id, sum(gpu_seconds) AS gpu_seconds, sum(money) AS money
        FROM lines WHERE account = 'reserved' GROUP BY 1) summed USING (project_id)
    WHERE coalesce(reserved_gpu_seconds, 0) <> coalesce(gpu_seconds, 0)
       OR coalesce(reserved_money, 0) <> coalesce(money, 0)
    UNION ALL
    SELECT 'reservation ' || id FROM reservations kept FULL JOIN (
        SELECT reservation_id AS id, sum(gpu_seconds) AS gpu_seconds, sum(money) AS money
        FROM lines WHERE account = 'reserved' GROUP BY 1) summed USING (id)
    WHERE coalesce(kept.gpu_seconds, 0) <> coalesce(summed.gpu_seconds, 0)
       OR coalesce(kept.money, 0) <> coalesce(summed.money, 0)
    UNION ALL
    SELECT 'day ' || project_id || ' ' || day FROM days kept FULL JOIN (
        SELECT project_id, day, sum(gpu_seconds) AS gpu_seconds, sum(money) AS money
        FROM lines WHERE account = 'spent' GROUP BY 1, 2) summed USING (project_id, day)
    WHERE coalesce(kept.gpu_seconds, 0) <> coalesce(summed.gpu_seconds, 0)
       OR coalesce(kept.money, 0) <> coalesce(summed.money, 0)
    UNION ALL
    SELECT 'usage ' || job_id || ' ' || day || ' ' || flavor FROM usage kept FULL JOIN (
        SELECT project_id, day, job_id, flavor, sum(gpu_seconds) AS gpu_seconds, sum(money) AS money
        FROM lines WHERE account = 'spent' GROUP BY 1, 2, 3, 4) summed
        USING (project_id, day, job_id, flavor)
    WHERE coalesce(kept.gpu_seconds, 0) <> coalesce(summed.gpu_seconds, 0)
       OR coalesce(kept.money, 0) <> coalesce(summed.money, 0)
    """
)
