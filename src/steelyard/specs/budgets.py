"""The language of budgets and costs. Amounts are exact: decimals, written as strings in JSON."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, model_validator

from steelyard.specs.base import Message, Spec


def plain(amount: Decimal) -> str:
    """Write an amount with all its digits and no exponent: `12.5`, `1000`."""
    whole = amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()
    return f"{whole:f}"


Exact = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]
Limit = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)]
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
Unit = Literal["gpu_hours", "money"]
UNITS: tuple[Unit, ...] = ("gpu_hours", "money")


class BudgetSpec(Spec):
    """What a project may use in one period. Days and periods are UTC's."""

    period: Literal["month", "quarter", "fixed"] = "month"
    """Of the calendar, or from `starts_on` to `ends_on`."""
    starts_on: Day | None = None
    """First day of a fixed period."""
    ends_on: Day | None = None
    """Last day of a fixed period. Before and after it nothing may be used."""
    gpu_hours: Limit | None = None
    """Hard limit. Unset: unbounded. Beyond it submissions are refused and running jobs pause."""
    money: Limit | None = None
    """Hard limit, in the currency of the flavors' prices."""
    soft_gpu_hours: Limit | None = None
    """Passing it warns."""
    soft_money: Limit | None = None

    @model_validator(mode="after")
    def _dates_fit_the_period(self) -> Self:
        if self.period == "fixed":
            if self.starts_on is None or self.ends_on is None:
                raise ValueError("a fixed period needs starts_on and ends_on")
            if self.starts_on > self.ends_on:
                raise ValueError("ends_on must not be before starts_on")
        elif self.starts_on is not None or self.ends_on is not None:
            raise ValueError("starts_on and ends_on need period: fixed")
        return self

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        for soft, hard, name in (
            (self.soft_gpu_hours, self.gpu_hours, "gpu_hours"),
            (self.soft_money, self.money, "money"),
        ):
            if soft is not None and hard is not None and soft > hard:
                raise ValueError(f"soft_{name} must not be greater than {name}")
        if all(limit is None for limit in (self.gpu_hours, self.money, self.soft_gpu_hours, self.soft_money)):
            raise ValueError("a budget needs a limit: gpu_hours, money, soft_gpu_hours or soft_money")
        return self


class BudgetFigures(Message):
    """One unit of a budget: what there is, and where it goes. Hours of GPUs, or money."""

    unit: Unit
    limit: Exact | None
    soft_limit: Exact | None
    spent: Exact
    """Metered in this period."""
    reserved: Exact
    """Held for jobs that are not over, of whatever period."""
    left: Exact | None
    """`limit - spent - reserved`, and never less than zero; None where nothing bounds it."""
    forecast: Exact
    """Expected at the period's end: `spent` plus the greater of `run_rate` and `reserved`."""
    run_rate: Exact
    """What the rest of the period takes at the period's mean pace so far."""


class BudgetView(Message):
    """A project's budget in its present period. Without one: the calendar month, unbounded but metered."""

    project: str
    budget: BudgetSpec | None
    starts_on: date
    ends_on: date
    state: Literal["unlimited", "ok", "warned", "exhausted", "closed"]
    """`closed`: a fixed period that has not begun, or is over."""
    figures: list[BudgetFigures]


class JobCost(Message):
    """What a job has cost, and what is held for it."""

    gpu_hours: Exact
    money: Exact
    reserved_gpu_hours: Exact
    reserved_money: Exact


class PlanCost(Message):
    """What a submission would reserve, and what that does to the budget."""

    gpu_hours: Exact
    """Upper bound: GPUs of all nodes, times the longest runtime, times trials."""
    money: Exact
    price_per_gpu_hour: Exact
    """The highest price among the flavors that could take it."""
    flavor: str | None
    """The flavor of that price."""
    refusal: str | None
    """Why the budget would refuse it now, with the numbers."""
    budget: BudgetView


class CostRow(Message):
    """The cost of one group."""

    group: dict[str, str]
    """Word of `group_by` -> value, such as `{"user": "ada", "day": "2026-01-31"}`."""
    gpu_hours: Exact
    money: Exact
    jobs: int


class CostForecast(Message):
    """What the whole span will have cost, if it isn't over."""

    until: date
    gpu_hours: Exact
    money: Exact
    method: str


class CostReport(Message):
    """Costs from the first day to the last, both included, in UTC."""

    since: date
    until: date
    group_by: list[str]
    rows: list[CostRow]
    gpu_hours: Exact
    money: Exact
    forecast: CostForecast | None
    """None where the span is over."""


class LedgerLine(Message):
    """One posting of a ledger transaction."""

    account: Literal["allowance", "reserved", "spent"]
    day: date | None
    flavor: str | None
    gpu_seconds: Exact
    money: Exact
    price_per_gpu_hour: Exact | None


class LedgerVerification(Message):
    """What comparing a project's ledger with its sums has found."""

    transactions: int
    faults: list[str]
    """In words; empty where every transaction sums to zero and every sum is that of its postings."""


class LedgerEntry(Message):
    """One transaction of the ledger; its lines sum to zero in both units."""

    id: str
    kind: Literal["reserve", "meter", "release"]
    job_id: str
    attempt_id: str | None
    covers_from: datetime | None
    covers_until: datetime | None
    posted_at: datetime
    lines: list[LedgerLine]
