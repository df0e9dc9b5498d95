"""What comes after an attempt: one pure function over how it ended. Runs inside workflows; no I/O."""

from dataclasses import dataclass
from enum import StrEnum

from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import Reason

MAX_EVICTIONS = 50
"""Ends that are nobody's fault, and still too many of them: something is wrong with the pool."""

_DELAYS_SECONDS = (0.0, 1.0, 5.0, 30.0, 60.0)

FINAL_REASONS = frozenset(
    {
        Reason.BAD_CONFIG,
        Reason.NAN_LOSS,
        Reason.MODEL_NOT_FOUND,
        Reason.DATASET_EMPTY,
        Reason.DATASET_NOT_FOUND,
        Reason.NO_CHAT_TEMPLATE,
        Reason.SEQUENCE_TOO_LONG,
        Reason.MAX_RUNTIME_EXCEEDED,
    }
)
"""Ends that another launch would only repeat."""

UNCOUNTED_REASONS = frozenset(
    {
        Reason.PREEMPTED,
        Reason.EVICTED,
        Reason.SPOT_INTERRUPTED,
        Reason.IDLE,
        Reason.BUDGET_EXHAUSTED,
        Reason.PAUSED_BY_USER,
        Reason.CANCELLED_BY_USER,
        Reason.PRUNED,
        Reason.FAMILY_PAUSED,
        Reason.FAMILY_OVER,
        Reason.PLATFORM_STOPPED,
        Reason.NODE_LOST,
        Reason.LEASE_LOST,
    }
)
"""Ends that don't use up `limits.max_retries`."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, as the database has it. `retries_used` and `evictions` include this end."""

    attempt_id: str
    kind: OutcomeKind
    cause: str
    message: str
    retries_used: int
    evictions: int


class NextKind(StrEnum):
    """The ways on."""

    STAGE_DONE = "stage_done"
    RELAUNCH = "relaunch"
    REQUEUE = "requeue"
    FAIL = "fail"


@dataclass(frozen=True)
class Next:
    """What the workflow does now. `delay_seconds` passes before a relaunch."""

    kind: NextKind
    reason: str
    message: str
    delay_seconds: float = 0.0


def is_counted(kind: OutcomeKind, cause: str) -> bool:
    """Whether an end uses up one of the job's retries."""
    return kind is OutcomeKind.FAILED and cause not in UNCOUNTED_REASONS and cause not in FINAL_REASONS


def decide_next(end: AttemptEnd, max_retries: int) -> Next:
    """Return what follows an attempt's end: the next stage, another launch, the queue, or failure."""
    if end.cause in FINAL_REASONS:
        return Next(NextKind.FAIL, end.cause, end.message)
    if end.kind is OutcomeKind.SUCCEEDED:
        return Next(NextKind.STAGE_DONE, Reason.COMPLETED, end.message)
    if end.evictions > MAX_EVICTIONS:
        return Next(NextKind.FAIL, Reason.EVICTED, f"taken off its node {end.evictions} times; {end.message}")
    if end.cause in (Reason.NODE_LOST, Reason.LEASE_LOST):
        return Next(NextKind.RELAUNCH, end.cause, end.message, delay_seconds=1.0)
    if end.kind is OutcomeKind.CHECKPOINTED or end.cause in UNCOUNTED_REASONS:
        return Next(NextKind.REQUEUE, end.cause, end.message)
    if end.retries_used > max_retries:
        return Next(
            NextKind.FAIL,
            Reason.RETRIES_EXHAUSTED,
            f"{end.message} (gave up after {max_retries} retries; 'steelyard retry' starts again from the"
            " newest checkpoint)",
        )
    delay = _DELAYS_SECONDS[min(end.retries_used - 1, len(_DELAYS_SECONDS) - 1)]
    return Next(NextKind.RELAUNCH, end.cause, end.message, delay_seconds=delay)
