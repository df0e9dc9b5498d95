"""Budgets, the ledger's postings, and their sums."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from sqlalchemy import BigInteger, Boolean, Date, ForeignKey, Identity, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from steelyard.storage.tables.base import Base, CreatedAt, Moment, TextKey

Exact = Annotated[Decimal, mapped_column(Numeric)]
Day = Annotated[date, mapped_column(Date)]
ProjectRef = Annotated[str, mapped_column(ForeignKey("projects.id"))]
ProjectKey = Annotated[str, mapped_column(ForeignKey("projects.id"), primary_key=True)]


class BudgetRow(Base):
    """What a project may use in one period. An empty limit doesn't bound."""

    __tablename__ = "budgets"

    project_id: Mapped[ProjectKey]
    period: Mapped[str]
    starts_on: Mapped[Day | None]
    ends_on: Mapped[Day | None]
    """Last day of a fixed period."""
    gpu_hours: Mapped[Exact | None]
    money: Mapped[Exact | None]
    soft_gpu_hours: Mapped[Exact | None]
    soft_money: Mapped[Exact | None]
    updated_by: Mapped[str]
    updated_at: Mapped[Moment]


class BudgetCrossingRow(Base):
    """A limit that spending has passed, told once for each period."""

    __tablename__ = "budget_crossings"

    project_id: Mapped[ProjectKey]
    starts_on: Mapped[date] = mapped_column(Date, primary_key=True)
    limit_kind: Mapped[TextKey]
    unit: Mapped[TextKey]
    amount: Mapped[Decimal] = mapped_column(Numeric, primary_key=True)
    crossed_at: Mapped[CreatedAt]


class LedgerTransactionRow(Base):
    """One act of the ledger. Its id says what it is for, so that doing it twice is doing it once."""

    __tablename__ = "ledger_transactions"
    __table_args__ = (
        Index("ledger_by_job", "job_id", "number"),
        Index("ledger_by_project", "project_id", "number"),
    )

    id: Mapped[TextKey]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    project_id: Mapped[ProjectRef]
    kind: Mapped[str]
    job_id: Mapped[str]
    reservation_id: Mapped[str]
    """The job whose reservation it moves: itself, or the parent of a trial."""
    attempt_id: Mapped[str | None]
    entries: Mapped[int]
    covers_from: Mapped[Moment | None]
    covers_until: Mapped[Moment | None]
    posted_at: Mapped[CreatedAt]


class LedgerPostingRow(Base):
    """One line of a transaction. The lines of a transaction sum to zero, in both units."""

    __tablename__ = "ledger_postings"

    transaction_id: Mapped[TextKey]
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectRef]
    account: Mapped[str]
    day: Mapped[Day | None]
    """Day of use, in UTC; of spent lines alone, as is the flavor."""
    flavor: Mapped[str | None]
    gpu_seconds: Mapped[Exact]
    money: Mapped[Exact]
    price_per_gpu_hour: Mapped[Exact | None]


class LedgerHeadRow(Base):
    """What a project has reserved. Whoever posts for the project holds this row's lock."""

    __tablename__ = "ledger_heads"

    project_id: Mapped[ProjectKey]
    reserved_gpu_seconds: Mapped[Exact]
    reserved_money: Mapped[Exact]


class LedgerReservationRow(Base):
    """What is left of a job's reservation, and how often it was made."""

    __tablename__ = "ledger_reservations"
    __table_args__ = (
        Index("ledger_reservations_open", "id", postgresql_where=text("gpu_seconds <> 0 OR money <> 0")),
    )

    id: Mapped[TextKey]
    project_id: Mapped[ProjectRef]
    gpu_seconds: Mapped[Exact]
    money: Mapped[Exact]
    reserves: Mapped[int]


class LedgerDrawRow(Base):
    """A job that uses another's reservation: a trial of a search, a stage of RLHF."""

    __tablename__ = "ledger_draws"

    job_id: Mapped[TextKey]
    project_id: Mapped[ProjectRef]
    reservation_id: Mapped[str]


class LedgerDayRow(Base):
    """What a project used on one day."""

    __tablename__ = "ledger_days"

    project_id: Mapped[ProjectKey]
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    gpu_seconds: Mapped[Exact]
    money: Mapped[Exact]


class LedgerUsageRow(Base):
    """What a job used on one day on one flavor."""

    __tablename__ = "ledger_usage"
    __table_args__ = (Index("ledger_usage_by_job", "job_id"),)

    project_id: Mapped[ProjectKey]
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    job_id: Mapped[TextKey]
    flavor: Mapped[TextKey]
    gpu_seconds: Mapped[Exact]
    money: Mapped[Exact]


class AttemptMeterRow(Base):
    """How far an attempt's use is posted, or that of a place between attempts. `shares` says what is held of
    which flavor."""

    __tablename__ = "attempt_meters"
    __table_args__ = (
        Index("attempt_meters_open", "posted_until", postgresql_where=text("NOT closed")),
        Index(
            "attempt_meters_of_places",
            "job_id",
            postgresql_where=text("NOT closed AND kind <> 'attempt'"),
        ),
    )

    attempt_id: Mapped[TextKey]
    project_id: Mapped[ProjectRef]
    job_id: Mapped[str]
    reservation_id: Mapped[str]
    shares: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    posted_until: Mapped[Moment]
    leased_until: Mapped[Moment]
    """No use after this moment is charged; each renewal sets it to a lease after what was posted."""
    ticks: Mapped[int]
    closed: Mapped[bool] = mapped_column(Boolean)
    kind: Mapped[str] = mapped_column(server_default="attempt")
    """A `governance.ledger.meters.MeterKind`."""
