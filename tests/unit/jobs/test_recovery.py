"""What comes after an attempt."""

import pytest

from steelyard.jobs.recovery import (
    FINAL_REASONS,
    MAX_EVICTIONS,
    UNCOUNTED_REASONS,
    AttemptEnd,
    NextKind,
    decide_next,
    is_counted,
)
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import Reason


def _end(kind: OutcomeKind, cause: Reason, retries_used: int = 0, evictions: int = 0) -> AttemptEnd:
    return AttemptEnd("att_1", kind, cause, "it ended", retries_used, evictions)


class TestDecideNext:
    def test_success_ends_the_stage(self) -> None:
        assert decide_next(_end(OutcomeKind.SUCCEEDED, Reason.COMPLETED), 0).kind is NextKind.STAGE_DONE

    @pytest.mark.parametrize("reason", sorted(FINAL_REASONS))
    def test_what_another_launch_would_repeat_fails_at_once(self, reason: Reason) -> None:
        step = decide_next(_end(OutcomeKind.FAILED, reason), 100)
        assert (step.kind, step.reason) == (NextKind.FAIL, reason)

    def test_the_first_failure_is_relaunched_without_delay(self) -> None:
        step = decide_next(_end(OutcomeKind.FAILED, Reason.PROCESS_KILLED, retries_used=1), 3)
        assert (step.kind, step.delay_seconds) == (NextKind.RELAUNCH, 0.0)

    def test_delays_grow_and_stay_bounded(self) -> None:
        delays = [
            decide_next(_end(OutcomeKind.FAILED, Reason.TRAINER_FAILED, retries_used=n), 100).delay_seconds
            for n in range(1, 10)
        ]
        assert delays == sorted(delays)
        assert delays[-1] == 60.0

    def test_the_last_retry_is_the_last(self) -> None:
        allowed = decide_next(_end(OutcomeKind.FAILED, Reason.TRAINER_FAILED, retries_used=3), 3)
        beyond = decide_next(_end(OutcomeKind.FAILED, Reason.TRAINER_FAILED, retries_used=4), 3)
        assert allowed.kind is NextKind.RELAUNCH
        assert (beyond.kind, beyond.reason) == (NextKind.FAIL, Reason.RETRIES_EXHAUSTED)

    @pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.EVICTED, Reason.PLATFORM_STOPPED])
    def test_a_checkpointed_end_goes_back_into_the_queue(self, reason: Reason) -> None:
        assert decide_next(_end(OutcomeKind.CHECKPOINTED, reason), 0).kind is NextKind.REQUEUE

    def test_too_many_evictions_fail(self) -> None:
        step = decide_next(_end(OutcomeKind.CHECKPOINTED, Reason.EVICTED, evictions=MAX_EVICTIONS + 1), 3)
        assert step.kind is NextKind.FAIL


class TestIsCounted:
    @pytest.mark.parametrize("reason", sorted(UNCOUNTED_REASONS | FINAL_REASONS))
    def test_what_is_nobody_s_fault_or_final_uses_no_retry(self, reason: Reason) -> None:
        assert not is_counted(OutcomeKind.FAILED, reason)

    def test_a_crash_uses_one(self) -> None:
        assert is_counted(OutcomeKind.FAILED, Reason.PROCESS_KILLED)

    def test_a_checkpointed_end_uses_none(self) -> None:
        assert not is_counted(OutcomeKind.CHECKPOINTED, Reason.TRANSIENT_FAILURE)
