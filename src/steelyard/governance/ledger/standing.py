"""Where a project stands in its budget, and what that refuses. Pure."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.demand import Demand
from steelyard.governance.ledger.periods import Period, day_of, period_of
from steelyard.kit.errors import BudgetExceeded
from steelyard.specs.budgets import UNITS, BudgetSpec, Unit, plain

_WORDS: dict[Unit, str] = {"gpu_hours": "GPU-hours", "money": "money"}


@dataclass(frozen=True)
class Standing:
    """A project's budget, what it has spent in the present period, and what is reserved.

    Reservations count whole against the present period, even where a job will run into the next one.
    """

    project_id: str
    budget: BudgetSpec | None
    now: datetime
    spent: Amount
    reserved: Amount

    @property
    def period(self) -> Period:
        """The period that spending counts in: the budget's, or the calendar month."""
        return present_period(self.budget, self.now)

    @property
    def is_closed(self) -> bool:
        """Whether the budget is for other days than today."""
        return self.budget is not None and not self.period.holds(day_of(self.now))

    def limit(self, unit: Unit) -> Decimal | None:
        """Return the hard limit of a unit; a closed budget allows nothing."""
        if self.budget is None:
            return None
        return Decimal(0) if self.is_closed else _hard(self.budget, unit)

    def left(self, unit: Unit) -> Decimal | None:
        """Return what can still be reserved; None where nothing bounds it."""
        limit = self.limit(unit)
        if limit is None:
            return None
        return max(Decimal(0), limit - self.spent.of(unit) - self.reserved.of(unit))

    def after(self, used: Sequence[tuple[date, Amount]]) -> "Standing":
        """Return the standing with more spent, as far as it was in this period. For spending alone."""
        more = [amount for day, amount in used if self.period.holds(day)]
        return dataclasses.replace(self, spent=sum(more, self.spent))

    def exhausted(self, cost: Amount) -> Unit | None:
        """Return the unit that is used up, among those in which `cost` is more than nothing."""
        for unit in UNITS:
            limit = self.limit(unit)
            if limit is not None and cost.of(unit) > 0 and self.spent.of(unit) >= limit:
                return unit
        return None

    def refusal(self, demand: Demand, price_per_gpu_hour: Decimal) -> BudgetExceeded | None:
        """Return why a demand can't be reserved, with the numbers, or None where it can."""
        asked = demand.amount(price_per_gpu_hour)
        short: list[Unit] = [
            unit for unit in UNITS if (left := self.left(unit)) is not None and asked.of(unit) > left
        ]
        if not short:
            return None
        fitting = min(
            demand.seconds_for(unit, self.left(unit) or Decimal(0), price_per_gpu_hour) for unit in short
        )
        unit = short[0]
        return BudgetExceeded(
            f"project {self.project_id}: {self.sentence(unit)}; asked for:"
            f" {plain(round(asked.of(unit), 4))} ({_asked(demand)}). {_remedy(fitting)}",
            param="limits.max_runtime_seconds",
            project=self.project_id,
            unit=unit,
            period={"starts_on": str(self.period.first), "ends_on": str(self.period.last)},
            units={name: self._figures(name, asked) for name in UNITS if self.limit(name) is not None},
            price_per_gpu_hour=plain(price_per_gpu_hour),
            fitting_max_runtime_seconds=fitting,
        )

    def sentence(self, unit: Unit) -> str:
        """Say in numbers where a limited unit stands."""
        if self.is_closed:
            return f"the budget is for {self.period.first} to {self.period.last}, and today is not in it"
        limit, left = self.limit(unit) or Decimal(0), self.left(unit) or Decimal(0)
        return (
            f"the budget of {plain(limit)} {_WORDS[unit]} from {self.period.first} to {self.period.last} has"
            f" {plain(round(left, 4))} left (spent {plain(round(self.spent.of(unit), 4))},"
            f" reserved {plain(round(self.reserved.of(unit), 4))})"
        )

    def _figures(self, unit: Unit, asked: Amount) -> dict[str, str]:
        amounts = {
            "limit": self.limit(unit),
            "spent": self.spent.of(unit),
            "reserved": self.reserved.of(unit),
            "left": self.left(unit),
            "asked": asked.of(unit),
        }
        return {name: plain(round(amount, 6)) for name, amount in amounts.items() if amount is not None}


@dataclass(frozen=True)
class Crossing:
    """A limit that spending has passed."""

    kind: str
    unit: Unit
    amount: Decimal


def present_period(budget: BudgetSpec | None, now: datetime) -> Period:
    """Return the period that counts now; without a budget the calendar month."""
    if budget is None:
        return period_of("month", day_of(now))
    return period_of(budget.period, day_of(now), budget.starts_on, budget.ends_on)


def crossings(standing: Standing) -> list[Crossing]:
    """Return the limits that spending has passed in this period."""
    budget = standing.budget
    if budget is None or standing.is_closed:
        return []
    return [
        Crossing(kind, unit, limit)
        for unit in UNITS
        for kind, limit in (("soft", _soft(budget, unit)), ("hard", _hard(budget, unit)))
        if limit is not None and standing.spent.of(unit) >= limit and (limit > 0 or kind == "hard")
    ]


def soft_limit(budget: BudgetSpec | None, unit: Unit) -> Decimal | None:
    """Return the limit that warns."""
    return _soft(budget, unit) if budget else None


def hard_limit(budget: BudgetSpec | None, unit: Unit) -> Decimal | None:
    """Return the limit that refuses, whatever the day."""
    return _hard(budget, unit) if budget else None


def _hard(budget: BudgetSpec, unit: Unit) -> Decimal | None:
    return budget.gpu_hours if unit == "gpu_hours" else budget.money


def _soft(budget: BudgetSpec, unit: Unit) -> Decimal | None:
    return budget.soft_gpu_hours if unit == "gpu_hours" else budget.soft_money


def _asked(demand: Demand) -> str:
    times = f", {demand.times} times" if demand.times > 1 else ""
    return f"{demand.gpus} GPUs for at most {plain(round(demand.seconds, 1))} s{times}"


def _remedy(fitting_seconds: int) -> str:
    if fitting_seconds < 1:
        return "Nothing fits; have the budget raised ('steelyard budget set'), or wait for jobs to end"
    return (
        f"limits.max_runtime_seconds of {fitting_seconds} would fit; or have the budget raised"
        " ('steelyard budget set')"
    )
