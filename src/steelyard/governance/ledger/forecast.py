"""What a period or a span will have cost when it is over. Pure."""

from dataclasses import dataclass
from datetime import datetime

from steelyard.governance.ledger.amounts import Amount, seconds_of
from steelyard.governance.ledger.periods import Period

METHOD = (
    "spent so far, plus the greater of two: the mean pace of the span so far over the rest of it, and what is"
    " reserved for jobs that are not over"
)


@dataclass(frozen=True)
class Forecast:
    """What the rest of a span takes at its mean pace so far, and what is expected at its end."""

    run_rate: Amount
    expected: Amount


def forecast(spent: Amount, reserved: Amount, span: Period, now: datetime) -> Forecast:
    """Extrapolate in a straight line from the span's beginning.

    What runs now is in the pace and in the reservations; so the greater of the two counts, not their sum.
    """
    begin, end = span.bounds()
    gone, rest = seconds_of(now - begin), seconds_of(end - now)
    if gone <= 0:
        return Forecast(Amount(), spent + reserved)
    if rest <= 0:
        return Forecast(Amount(), spent)
    pace = Amount(spent.gpu_seconds * rest / gone, spent.money * rest / gone)
    more = Amount(max(pace.gpu_seconds, reserved.gpu_seconds), max(pace.money, reserved.money))
    return Forecast(pace, spent + more)
