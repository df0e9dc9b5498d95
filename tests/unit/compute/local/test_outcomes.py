"""What an end means where the trainer left no word of its own."""

import pytest

from steelyard.compute.local.files import Exit, StopRequest
from steelyard.compute.local.outcomes import conclude, never_started
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import Reason

CHECKPOINT = StopRequest("checkpoint", "paused_by_user", 0.0, 30.0)
KILL = StopRequest("kill", "stalled", 0.0, 0.0)
FAILED, CHECKPOINTED, SUCCEEDED = OutcomeKind.FAILED, OutcomeKind.CHECKPOINTED, OutcomeKind.SUCCEEDED


def end(code: int | None = None, number: int | None = None, cause: str = "payload") -> Exit:
    return Exit(cause, code, number, "then", "now", "because")


@pytest.mark.parametrize(
    ("given", "stop", "processes", "kind", "reason"),
    [
        (end(0), None, 1, SUCCEEDED, Reason.COMPLETED),
        (end(0), CHECKPOINT, 1, SUCCEEDED, Reason.COMPLETED),
        (end(1), CHECKPOINT, 1, FAILED, Reason.TRAINER_FAILED),
        (end(1), CHECKPOINT, 2, CHECKPOINTED, Reason.PAUSED_BY_USER),
        (end(1), None, 2, FAILED, Reason.TRAINER_FAILED),
        (end(64), CHECKPOINT, 1, FAILED, Reason.BAD_CONFIG),
        (end(143), None, 1, FAILED, Reason.PROCESS_KILLED),
        (end(143), CHECKPOINT, 1, CHECKPOINTED, Reason.PAUSED_BY_USER),
        (end(None, 15), CHECKPOINT, 1, CHECKPOINTED, Reason.PAUSED_BY_USER),
        (end(None, 15), KILL, 1, FAILED, Reason.PROCESS_KILLED),
        (end(None, 9), CHECKPOINT, 1, FAILED, Reason.PROCESS_KILLED),
        (end(None, 9, "grace"), CHECKPOINT, 1, FAILED, Reason.PROCESS_KILLED),
        (end(None, 9, "stop"), KILL, 1, FAILED, Reason.PROCESS_KILLED),
        (end(None, 9, "memory"), CHECKPOINT, 1, FAILED, Reason.OUT_OF_MEMORY),
        (end(None, 9, "kernel_memory"), None, 1, FAILED, Reason.OUT_OF_MEMORY),
        (end(None, 11), None, 1, FAILED, Reason.TRAINER_FAILED),
        (end(None, None, "error"), None, 1, FAILED, Reason.TRANSIENT_FAILURE),
        (end(None, None, "not_started"), CHECKPOINT, 1, CHECKPOINTED, Reason.PAUSED_BY_USER),
    ],
)
def test_ends_become_outcomes(
    given: Exit,
    stop: StopRequest | None,
    processes: int,
    kind: OutcomeKind,
    reason: Reason,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    outcome = conclude(tmp_path_factory.mktemp("attempt"), given._replace(processes=processes), stop)
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert outcome.message


def test_a_damaged_outcome_is_no_word(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("attempt")
    (folder / "outcome.json").write_text('{"kind": "succ')
    assert conclude(folder, end(75), None).reason is Reason.TRANSIENT_FAILURE


def test_a_reason_that_is_not_ours_is_that_of_the_platform() -> None:
    odd = CHECKPOINT._replace(reason="because I can")
    assert never_started(odd).reason is Reason.PLATFORM_STOPPED
    assert never_started(KILL).reason is Reason.PROCESS_KILLED
