"""When an attempt counts as idle: a pure function, tried over time."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from steelyard.jobs.idleness import Activity, Sight, Step, judge
from steelyard.specs.pool import IdlePolicy

START = datetime(2026, 3, 1, tzinfo=UTC)
RULE = IdlePolicy(window_seconds=100, warning_seconds=50, min_gpu_utilisation=0.1, min_steps=2)


@dataclass
class Life:
    """An attempt that is looked at every ten seconds."""

    policy: IdlePolicy = RULE
    known: Activity = field(default_factory=lambda: Activity(0, START, START))
    now: datetime = START

    def look(self, step: int = 0, utilisation: float | None = None, *, training: bool = True) -> Step:
        """Let ten seconds pass and look."""
        self.now += timedelta(seconds=10)
        self.known, due = judge(self.known, Sight(step, training, utilisation), self.now, self.policy)
        return due


def test_a_window_without_steps_warns_once_and_then_acts() -> None:
    life = Life()
    assert [life.look() for _ in range(15)] == ["none"] * 9 + ["warn"] + ["none"] * 4 + ["requeue"]


def test_fewer_steps_than_the_bound_in_a_window_are_idle_and_enough_are_not() -> None:
    slow = Life()
    assert "warn" in [slow.look(step=1) for _ in range(12)]
    busy = Life()
    assert {busy.look(step=step) for step in range(1, 60)} == {"none"}


def test_where_it_is_measured_the_gpus_decide() -> None:
    working = Life()
    assert {working.look(utilisation=0.5) for _ in range(60)} == {"none"}, "a step may take long"
    idle = Life()
    assert "requeue" in [idle.look(step=step, utilisation=0.01) for step in range(60)]


def test_work_takes_a_warning_back() -> None:
    life = Life()
    assert "warn" in [life.look() for _ in range(11)]
    assert life.look(step=5) == "none"
    assert life.known.warned_at is None
    assert [life.look(step=5) for _ in range(9)] == ["none"] * 9


def test_loading_is_not_idling() -> None:
    life = Life()
    assert {life.look(training=False) for _ in range(60)} == {"none"}


def test_policies_that_only_warn_or_do_nothing() -> None:
    warning = Life(RULE.model_copy(update={"action": "warn"}))
    assert [warning.look() for _ in range(60)].count("warn") == 1
    nothing = Life(RULE.model_copy(update={"action": "none"}))
    assert {nothing.look() for _ in range(60)} == {"none"}


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_nobody_acts_without_a_warning_before_and_a_whole_window_without_work(works: list[bool]) -> None:
    life, step, warned, idle = Life(), 0, False, 0
    for works_now in works:
        step += 2 if works_now else 0
        idle = 0 if works_now else idle + 10
        due = life.look(step)
        if works_now:
            warned = False
        if due == "requeue":
            assert warned
            assert idle >= 150
            return
        warned = warned or due == "warn"
        assert due == "none" or idle >= 100
