"""Amounts in the ledger's two units. Exact: no float ever touches one."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Self

from steelyard.specs.budgets import Unit

SECONDS_PER_HOUR = Decimal(3600)
_MONEY_STEP = Decimal("1e-9")
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Amount:
    """GPU-seconds, to the microsecond, and money, to a billionth."""

    gpu_seconds: Decimal = _ZERO
    money: Decimal = _ZERO

    def __add__(self, other: Self) -> "Amount":
        return Amount(self.gpu_seconds + other.gpu_seconds, self.money + other.money)

    def __sub__(self, other: Self) -> "Amount":
        return Amount(self.gpu_seconds - other.gpu_seconds, self.money - other.money)

    def __neg__(self) -> "Amount":
        return Amount(-self.gpu_seconds, -self.money)

    @property
    def is_zero(self) -> bool:
        """Whether there is nothing to post."""
        return self.gpu_seconds == 0 and self.money == 0

    def at_most(self, other: Self) -> "Amount":
        """Return the lesser of the two, unit by unit."""
        return Amount(min(self.gpu_seconds, other.gpu_seconds), min(self.money, other.money))

    def of(self, unit: Unit) -> Decimal:
        """Return one unit, as people see it: hours of GPUs, or money."""
        return self.gpu_seconds / SECONDS_PER_HOUR if unit == "gpu_hours" else self.money


def cost_of(gpus: int, seconds: Decimal, price_per_gpu_hour: Decimal) -> Amount:
    """Return what GPUs cost that are held for a while."""
    gpu_seconds = gpus * seconds
    return Amount(gpu_seconds, (gpu_seconds * price_per_gpu_hour / SECONDS_PER_HOUR).quantize(_MONEY_STEP))


def seconds_of(span: timedelta) -> Decimal:
    """Return a span in seconds, exactly."""
    return Decimal(span // timedelta(microseconds=1)) / 1_000_000
