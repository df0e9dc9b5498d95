"""Why a run ends badly, with the reason, exit code and remedy that the platform shows.

`RunFailure` is raised on purpose; `classify` gives everything else a place.
"""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from steelyard.kit.errors import SteelyardError
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason

FAILURE_EXIT = 1
_NO_ROOM_BYTES = 64 << 20


class RunFailure(SteelyardError):
    """A failure with a known reason. `exit_code` follows the contract in `specs.outcome`."""

    code = "run_failure"

    def __init__(self, reason: Reason, exit_code: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.reason = reason
        self.exit_code = exit_code


class Fenced(Exception):
    """A newer attempt has taken over. Whoever catches this writes nothing more and leaves."""


class Stopped(Exception):
    """The run was asked to leave before it began a step; there is nothing new to save."""


def bad_config(reason: Reason, message: str, *, param: str | None = None) -> RunFailure:
    """Make the failure of a run that would fail the same way again."""
    return RunFailure(reason, ExitCode.BAD_CONFIG, message, param=param)


def not_finite(step: int) -> RunFailure:
    """Make the failure of a loss that is NaN or infinite."""
    return RunFailure(
        Reason.NAN_LOSS,
        FAILURE_EXIT,
        f"The loss or its gradient at step {step} is not a finite number: lower training.learning_rate, add "
        "training.warmup_steps, lower training.max_grad_norm, or look at the rows of that step.",
        param="training.learning_rate",
    )


def no_secret(name: str) -> RunFailure:
    """Make the failure of a script that asks for a secret which its job wasn't given."""
    return bad_config(
        Reason.BAD_CONFIG,
        f"This run has no secret {name!r}: put it into the spec's `secrets`, or, where the script runs "
        f"without the platform, into the environment variable {name}.",
        param="secrets",
    )


def classify(error: BaseException, job_dir: Path) -> RunFailure:
    """Find the reason of an exception that nobody expected."""
    if isinstance(error, RunFailure):
        return error
    chain = list(_chain(error))
    if any(_is_out_of_memory(each) for each in chain):
        return bad_config(
            Reason.OUT_OF_MEMORY,
            "The trainer ran out of memory: lower training.per_device_train_batch_size or "
            "training.max_length, turn on training.gradient_checkpointing, use peft, or ask for more "
            "in resources.",
        )
    if any(_is_disk_full(each, job_dir) for each in chain):
        return RunFailure(
            Reason.DISK_FULL,
            ExitCode.TRANSIENT,
            f"No room on the disk of {job_dir}: free space there, or lower checkpoint.save_total_limit.",
        )
    if isinstance(error, ValidationError):
        return bad_config(Reason.BAD_CONFIG, f"run.json can't be read by this trainer: {error}")
    return RunFailure(
        Reason.TRAINER_FAILED,
        FAILURE_EXIT,
        f"{type(error).__name__}: {_first_line(error)} (the attempt's log has the whole traceback)",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's class is named, not imported: this module must stay light.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _is_disk_full(error: BaseException, job_dir: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left on device" in str(error):
        return True
    # torch.save says only that a write failed.
    return "PytorchStreamWriter failed" in str(error) and _has_no_room(job_dir)


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM_BYTES
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else "no message"
