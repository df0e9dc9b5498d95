"""How an attempt ended, in the trainer's own words, and the exit codes that say it in one number."""

from enum import IntEnum, StrEnum

from steelyard.specs.base import Message
from steelyard.specs.states import Reason

OUTCOME_NAME = "outcome.json"


class ExitCode(IntEnum):
    """The contract between a trainer and every executor. Any other code is a failure that counts."""

    DONE = 0
    BAD_CONFIG = 64
    TRANSIENT = 75
    CHECKPOINTED = 143


class OutcomeKind(StrEnum):
    """What became of one launch."""

    SUCCEEDED = "succeeded"
    CHECKPOINTED = "checkpointed"
    FAILED = "failed"


class Outcome(Message):
    """Written by the trainer as `outcome.json`, atomically, as its last act.

    Where the file is missing the executor makes one from the exit code or signal.
    """

    kind: OutcomeKind
    exit_code: int
    reason: Reason
    message: str
    """One sentence with the remedy."""
    step: int = 0
    model_dir: str | None = None
    """Folder of the finished model, with its manifest, relative to the job's folder."""
    metrics: dict[str, float] = {}
    """Final figures: `heldout/loss` and the like."""
