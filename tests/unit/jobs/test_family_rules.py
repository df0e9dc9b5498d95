"""What a retry starts again, and what a child may be asked by itself."""

import pytest

from steelyard.jobs.family_rules import is_due, refuse_for_family, starts_again
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason, Verb


@pytest.mark.parametrize(
    ("state", "reason", "search", "pipeline"),
    [
        (JobState.SUCCEEDED, Reason.COMPLETED, False, False),
        (JobState.CANCELLED, Reason.PRUNED, False, False),
        (JobState.CANCELLED, Reason.CANCELLED_BY_USER, True, True),
        (JobState.CANCELLED, Reason.FAMILY_OVER, True, True),
        (JobState.FAILED, Reason.PLATFORM_ERROR, True, True),
        (JobState.FAILED, Reason.RETRIES_EXHAUSTED, True, True),
        (JobState.FAILED, Reason.NAN_LOSS, False, True),
        (JobState.FAILED, Reason.GATE_FAILED, False, True),
        (JobState.RUNNING, None, False, False),
    ],
)
def test_a_retry_starts_again_what_may_end_otherwise(
    state: JobState, reason: str | None, search: bool, pipeline: bool
) -> None:
    assert starts_again("hpo", state, reason) is search
    assert starts_again("rlhf", state, reason) is pipeline


@pytest.mark.parametrize("parent", list(JobState))
def test_retry_and_resume_need_a_family_that_is_at_work(parent: JobState) -> None:
    refused = parent in {*TERMINAL_STATES, JobState.PAUSING, JobState.PAUSED, JobState.CANCELLING}
    for verb in (Verb.RETRY, Verb.RESUME):
        refusal = refuse_for_family(verb, Reason.PLATFORM_ERROR, "job_1", parent)
        assert (refusal is not None) is refused
        assert refusal is None or "job_1" in refusal
    for verb in (Verb.PAUSE, Verb.CANCEL, Verb.SET_PRIORITY):
        assert refuse_for_family(verb, None, "job_1", parent) is None


def test_what_was_pruned_is_a_result() -> None:
    assert refuse_for_family(Verb.RETRY, Reason.PRUNED, "job_1", JobState.RUNNING) is not None


def test_what_ends_in_the_present_run_has_had_its_turn() -> None:
    cancelled = (JobState.CANCELLED, Reason.CANCELLED_BY_USER)
    assert is_due("hpo", 1, 0, *cancelled)
    assert is_due("hpo", 3, 1, *cancelled)
    assert not is_due("hpo", 1, 1, *cancelled)
    assert not is_due("hpo", 1, 0, JobState.CANCELLED, Reason.PRUNED)
    assert not is_due("hpo", 1, 0, JobState.QUEUED, None)
