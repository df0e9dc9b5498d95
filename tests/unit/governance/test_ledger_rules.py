"""The ledger's arithmetic at its bounds: amounts, demands, meters, periods, postings, forecasts."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from steelyard.client.spec_file import load_spec_file
from steelyard.governance.ledger.amounts import Amount, cost_of, seconds_of
from steelyard.governance.ledger.demand import FREE, Demand, Price, demand_of, highest
from steelyard.governance.ledger.forecast import forecast
from steelyard.governance.ledger.meters import Meter, Share
from steelyard.governance.ledger.periods import Period, day_of, period_of
from steelyard.governance.ledger.postings import Account, Transaction, meter, release, reserve, total
from steelyard.governance.ledger.standing import Crossing, Standing, crossings, hard_limit, soft_limit
from steelyard.specs.budgets import UNITS, BudgetSpec
from steelyard.specs.job import JOB_SPEC, JobSpec

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
D = Decimal
NOTHING = Amount()
EXAMPLES = Path(__file__).parents[3] / "examples" / "jobs"
JUNE = Period(date(2026, 6, 1), date(2026, 6, 30))


def amount(gpu_seconds: str | int | Decimal = 0, money: str | int = 0) -> Amount:
    return Amount(D(gpu_seconds), D(money))


def budget(**limits: Any) -> BudgetSpec:
    exact: dict[str, Any] = {
        name: D(value) if isinstance(value, int) else value for name, value in limits.items()
    }
    return BudgetSpec(**exact)


def standing(spent: Amount, reserved: Amount = NOTHING, now: datetime = NOON, **limits: Any) -> Standing:
    return Standing("p", budget(**limits) if limits else None, now, spent, reserved)


def _example(job_type: str) -> JobSpec:
    data = load_spec_file(EXAMPLES / f"{job_type}.yaml").data
    launched = data.get("trial") or data.get("template") or data
    launched["resources"] = {**launched.get("resources", {}), "gpus": 2}
    if job_type not in ("eval_only", "rlhf"):
        launched["distributed"] = {"strategy": "ddp", "num_nodes": 3, "processes_per_node": 2}
    return JOB_SPEC.validate_json(json.dumps(data))


class TestAmounts:
    def test_they_add_and_subtract_unit_by_unit(self) -> None:
        assert amount(3, 5) + amount(1, 2) == amount(4, 7)
        assert amount(3, 5) - amount(1, 2) == amount(2, 3)
        assert -amount(3, 5) == amount(-3, -5)
        assert amount(3, 5).at_most(amount(4, 2)) == amount(3, 2)
        assert total([amount(1, 2), amount(3, 4)]) == amount(4, 6)

    @pytest.mark.parametrize(("what", "zero"), [((0, 0), True), ((1, 0), False), ((0, 1), False)])
    def test_nothing_is_nothing_in_both_units(self, what: tuple[int, int], zero: bool) -> None:
        assert amount(*what).is_zero is zero

    def test_a_cost_is_exact(self) -> None:
        assert cost_of(2, D(1800), D("2.5")) == amount(3600, "2.5")
        assert cost_of(1, D("0.000001"), D("3.6")) == amount("0.000001", "1E-9")
        assert seconds_of(timedelta(hours=1, microseconds=1)) == D("3600.000001")
        assert amount(5400, 7).of("gpu_hours") == D("1.5")
        assert amount(5400, 7).of("money") == 7


class TestDemands:
    def test_trials_multiply(self) -> None:
        assert Demand(2, D(100), 3).amount(D(36)) == amount(600, 6)

    @pytest.mark.parametrize(
        ("demand", "unit", "left", "price", "seconds"),
        [
            (Demand(2, D(9)), "gpu_hours", 1, 0, 1800),
            (Demand(2, D(9), 3), "gpu_hours", 1, 0, 600),
            (Demand(2, D(9)), "money", 1, 2, 900),
            (Demand(2, D(9)), "gpu_hours", "0.0011", 0, 1),
            (Demand(2, D(9)), "money", 1, 0, 9),
            (Demand(0, D(9)), "gpu_hours", 1, 2, 9),
        ],
    )
    def test_the_longest_runtime_that_fits_is_rounded_down(
        self, demand: Demand, unit: Any, left: str | int, price: int, seconds: int
    ) -> None:
        found = demand.seconds_for(unit, D(left), D(price))
        assert found == seconds
        if price or unit == "gpu_hours":
            fits = Demand(demand.gpus, D(found), demand.times).amount(D(price)).of(unit)
            more = Demand(demand.gpus, D(found + 1), demand.times).amount(D(price)).of(unit)
            assert fits <= D(left)
            assert more > D(left) or not demand.gpus

    @pytest.mark.parametrize(
        ("job_type", "gpus", "seconds", "times", "left"),
        [
            ("fine_tune", 6, 3600, 1, "3499.5"),
            ("hpo", 6, 1800, 12, "21499.5"),
            ("retrain", 6, 86400, 1, "86299.5"),
            ("rlhf", 2, 7200, 1, "7099.5"),
            ("eval_only", 2, 86400, 1, "86299.5"),
        ],
    )
    def test_of_a_job_all_that_it_may_still_run(
        self, job_type: str, gpus: int, seconds: int, times: int, left: str
    ) -> None:
        """Two GPUs on each of three nodes, of which an evaluation and a pipeline take one."""
        spec = _example(job_type)
        assert demand_of(spec) == Demand(gpus, D(seconds), times)
        assert demand_of(spec, 100.5) == Demand(gpus, D(left))
        assert demand_of(spec, 1e9) == Demand(gpus, D(0))

    def test_of_prices_the_highest_counts(self) -> None:
        dear, cheap = Price("a", D(3)), Price("b", D(2))
        assert highest([cheap, dear]) == dear
        assert highest([]) == FREE


class TestMeters:
    METER = Meter("att", "p", "job", "job", (Share("a", 2),), NOON, NOON + timedelta(minutes=10), 4)

    @pytest.mark.parametrize(("minutes", "charged"), [(-1, None), (0, None), (3, 3), (10, 10), (11, 10)])
    def test_what_no_lease_covers_is_never_charged(self, minutes: int, charged: int | None) -> None:
        due = self.METER.due(NOON + timedelta(minutes=minutes))
        assert due == (None if charged is None else (NOON, NOON + timedelta(minutes=charged)))

    def test_a_posted_span_is_not_due_again(self) -> None:
        later = NOON + timedelta(minutes=5)
        posted = self.METER.posted(later)
        assert posted.ticks == 5
        assert posted.due(later) is None

    @pytest.mark.parametrize(("minutes", "since"), [(-5, 0), (0, 0), (25, 25)])
    def test_a_renewal_skips_the_gap_and_never_goes_back(self, minutes: int, since: int) -> None:
        renewed = self.METER.renewed(NOON + timedelta(minutes=minutes), timedelta(minutes=2))
        assert renewed.posted_until == NOON + timedelta(minutes=since)
        assert renewed.leased_until == NOON + timedelta(minutes=since + 2)


class TestPeriods:
    @pytest.mark.parametrize(
        ("kind", "today", "first", "last"),
        [
            ("month", (2026, 1, 1), (2026, 1, 1), (2026, 1, 31)),
            ("month", (2028, 2, 29), (2028, 2, 1), (2028, 2, 29)),
            ("month", (2026, 12, 31), (2026, 12, 1), (2026, 12, 31)),
            ("quarter", (2026, 3, 31), (2026, 1, 1), (2026, 3, 31)),
            ("quarter", (2026, 4, 1), (2026, 4, 1), (2026, 6, 30)),
            ("quarter", (2026, 12, 31), (2026, 10, 1), (2026, 12, 31)),
        ],
    )
    def test_they_are_the_calendars(self, kind: Any, today: Any, first: Any, last: Any) -> None:
        assert period_of(kind, date(*today)) == Period(date(*first), date(*last))

    def test_both_ends_belong_to_it_and_days_are_of_utc(self) -> None:
        assert [JUNE.holds(date(2026, *day)) for day in ((5, 31), (6, 1), (6, 30), (7, 1))] == [
            False, True, True, False,
        ]  # fmt: skip
        assert JUNE.bounds() == (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
        assert day_of(datetime.fromisoformat("2026-07-01T00:30:00+02:00")) == date(2026, 6, 30)


class TestPostings:
    METER = Meter("att", "p", "job", "res", (Share("a", 2), Share("cpu", 0)), NOON, NOON, 4)

    def metered(self, hours: float, reserved: Amount, since: datetime = NOON) -> Transaction:
        found = meter(self.METER, (since, since + timedelta(hours=hours)), {"a": D(3)}, reserved)
        assert found
        return found

    def test_every_transaction_sums_to_zero(self) -> None:
        made = [
            reserve("p", "job", "0:1", amount(7, 3)),
            release("p", "job", 2, amount(7, 3)),
            *(self.metered(hours, amount(3600, 1)) for hours in (0.25, 1, 30)),
        ]
        for transaction in made:
            assert total(line.amount for line in transaction.postings).is_zero
        assert made[0].postings[1].amount == amount(7, 3)
        assert [line.account for line in made[1].postings] == [Account.RESERVED, Account.ALLOWANCE]
        assert made[1].postings[0].amount == amount(-7, -3)

    def test_use_comes_out_of_the_reservation_first(self) -> None:
        within = self.metered(0.5, amount(9000, 9))
        assert [(line.account, line.amount) for line in within.postings] == [
            (Account.RESERVED, amount(-3600, -3)), (Account.SPENT, amount(3600, 3)),
        ]  # fmt: skip
        beyond = self.metered(0.5, amount(3000, 1))
        assert [(line.account, line.amount) for line in beyond.postings[:2]] == [
            (Account.RESERVED, amount(-3000, -1)), (Account.ALLOWANCE, amount(-600, -2)),
        ]  # fmt: skip

    def test_a_span_over_midnight_is_two_days(self) -> None:
        night = datetime(2026, 6, 30, 23, 30, tzinfo=UTC)
        lines = self.metered(1, amount(9999, 99), night).used
        assert lines == [(date(2026, 6, 30), amount(3600, 3)), (date(2026, 7, 1), amount(3600, 3))]
        assert len(self.metered(0.5, amount(), night).used) == 1

    def test_nothing_held_is_nothing_posted(self) -> None:
        assert meter(self.METER, (NOON, NOON), {}, amount()) is None
        found = meter(self.METER, (NOON, NOON + timedelta(seconds=1)), {}, amount())
        assert found
        assert found.used == [(NOON.date(), amount(2, 0))]
        assert (found.id, found.attempt_id) == ("meter:att:5", "att")


class TestStandings:
    @pytest.mark.parametrize(
        ("spent", "reserved", "left"), [(0, 0, 10), (4, 3, 3), (4, 6, 0), (11, 0, 0), (4, 7, 0)]
    )
    def test_what_is_left_is_never_less_than_nothing(self, spent: int, reserved: int, left: int) -> None:
        found = standing(amount(0, spent), amount(0, reserved), money=10)
        assert found.left("money") == left
        assert found.left("gpu_hours") is None

    @pytest.mark.parametrize(("asked", "refused"), [(10, False), (11, True)])
    def test_all_that_is_left_can_be_reserved_and_no_more(self, asked: int, refused: bool) -> None:
        found = standing(amount(), gpu_hours=10).refusal(Demand(1, D(3600 * asked)), D(0))
        assert (found is not None) is refused

    def test_a_refusal_names_what_would_fit_in_all_units(self) -> None:
        refusal = standing(amount(), gpu_hours=10, money=4).refusal(Demand(2, D(36000)), D(2))
        assert refusal
        assert refusal.details["fitting_max_runtime_seconds"] == 3600
        units: Any = refusal.details["units"]
        assert set(units) == {"gpu_hours", "money"}

    def test_a_refusal_says_all_numbers(self) -> None:
        found = standing(amount(1800, 1), amount(3600, 2), gpu_hours=2, money=4)
        refusal = found.refusal(Demand(2, D(1800), 3), D(2))
        assert refusal
        assert refusal.message == (
            "project p: the budget of 2 GPU-hours from 2026-06-01 to 2026-06-30 has 0.5 left (spent 0.5,"
            " reserved 1); asked for: 3 (2 GPUs for at most 1800 s, 3 times). limits.max_runtime_seconds of"
            " 300 would fit; or have the budget raised ('steelyard budget set')"
        )
        assert refusal.details["units"] == {
            "gpu_hours": {"limit": "2", "spent": "0.5", "reserved": "1", "left": "0.5", "asked": "3"},
            "money": {"limit": "4", "spent": "1", "reserved": "2", "left": "1", "asked": "6"},
        }
        once = found.refusal(Demand(1, D(3600)), D(0))
        assert once
        assert "(1 GPUs for at most 3600 s)" in once.message

    @pytest.mark.parametrize(("left", "said"), [(1, "of 1 would fit"), ("0.999", "Nothing fits")])
    def test_a_second_is_something_that_fits(self, left: int | str, said: str) -> None:
        refusal = standing(amount(D(3600) - D(left)), gpu_hours=1).refusal(Demand(1, D(60)), D(0))
        assert refusal
        assert said in refusal.message

    def test_outside_its_days_a_refusal_says_which_they_are(self) -> None:
        days: dict[str, Any] = {"period": "fixed", "starts_on": date(2026, 7, 1), "ends_on": date(2026, 7, 9)}
        refusal = standing(amount(), gpu_hours=9, **days).refusal(Demand(1, D(60)), D(0))
        assert refusal
        assert "the budget is for 2026-07-01 to 2026-07-09, and today is not in it" in refusal.message

    def test_limits_are_those_of_the_budget_whatever_the_day(self) -> None:
        both = budget(gpu_hours=2, soft_gpu_hours=1, money=4, soft_money=3)
        assert [hard_limit(both, unit) for unit in UNITS] == [2, 4]
        assert [soft_limit(both, unit) for unit in UNITS] == [1, 3]
        assert hard_limit(None, "money") is soft_limit(None, "money") is None

    @pytest.mark.parametrize(
        ("spent", "cost", "unit"),
        [
            ((0, 9), (0, 1), None), ((0, 10), (0, 1), "money"), ((0, 10), (5, 0), None),
            ((0, 11), (0, 1), "money"), ((7200, 10), (1, 1), "gpu_hours"),
        ],
    )  # fmt: skip
    def test_a_limit_stops_whoever_costs_something_in_it(self, spent: Any, cost: Any, unit: Any) -> None:
        assert standing(amount(*spent), gpu_hours=2, money=10).exhausted(amount(*cost)) == unit

    @pytest.mark.parametrize(
        ("spent", "crossed"),
        [(4, []), (5, ["soft"]), (9, ["soft"]), (10, ["soft", "hard"]), (11, ["soft", "hard"])],
    )
    def test_a_limit_is_passed_once_it_is_reached(self, spent: int, crossed: list[str]) -> None:
        found = crossings(standing(amount(0, spent), soft_money=5, money=10))
        assert [each.kind for each in found] == crossed

    def test_a_soft_limit_of_nothing_warns_of_nothing(self) -> None:
        found = crossings(standing(amount(), soft_money=0, money=0))
        assert found == [Crossing("hard", "money", D(0))]
        assert crossings(standing(amount(5, 5))) == []

    def test_outside_its_days_a_budget_allows_nothing(self) -> None:
        days: dict[str, Any] = {
            "period": "fixed",
            "starts_on": date(2026, 6, 10),
            "ends_on": date(2026, 6, 10),
        }
        for offset, closed in ((-1, True), (0, False), (1, True)):
            now = NOON + timedelta(days=offset)
            found = standing(amount(0, 5), now=now, money=10, soft_money=5, **days)
            assert found.is_closed is closed
            assert found.left("money") == (0 if closed else 5)
            assert bool(crossings(found)) is not closed

    def test_only_what_is_spent_in_the_period_counts(self) -> None:
        used = [(date(2026, 5, 31), amount(0, 1)), (date(2026, 6, 1), amount(0, 2))]
        assert standing(amount(0, 4), money=10).after(used).spent == amount(0, 6)


class TestForecasts:
    def test_it_goes_on_at_the_mean_pace(self) -> None:
        now = datetime(2026, 6, 11, tzinfo=UTC)
        found = forecast(amount(1000, 10), amount(), JUNE, now)
        assert found.run_rate == amount(2000, 20)
        assert found.expected == amount(3000, 30)

    def test_the_greater_of_pace_and_reservations_counts(self) -> None:
        now = datetime(2026, 6, 11, tzinfo=UTC)
        found = forecast(amount(1000, 10), amount(2500, 5), JUNE, now)
        assert found.expected == amount(3500, 30)

    @pytest.mark.parametrize(
        ("now", "expected"),
        [
            (datetime(2026, 5, 1, tzinfo=UTC), (8, 8)), (datetime(2026, 6, 1, tzinfo=UTC), (8, 8)),
            (datetime(2026, 7, 1, tzinfo=UTC), (5, 5)), (datetime(2026, 8, 1, tzinfo=UTC), (5, 5)),
        ],
    )  # fmt: skip
    def test_before_a_span_reservations_count_and_after_it_nothing_is_added(
        self, now: datetime, expected: tuple[int, int]
    ) -> None:
        assert forecast(amount(5, 5), amount(3, 3), JUNE, now).expected == amount(*expected)
