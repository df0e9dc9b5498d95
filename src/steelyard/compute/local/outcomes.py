"""How an attempt ended: in the trainer's words where it left any, else from what the kernel says."""

import contextlib
import signal
from pathlib import Path

from pydantic import ValidationError

from steelyard.compute.local.files import Exit, StopRequest
from steelyard.specs.outcome import OUTCOME_NAME, ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason

_SHELL_SIGNAL_BASE = 128


def conclude(folder: Path, end: Exit, stop: StopRequest | None) -> Outcome:
    """Return the outcome of an attempt that has ended.

    The trainer's `outcome.json` is its last act, so where it is there it is the truth, whatever killed
    the process afterwards.
    """
    return read_outcome(folder) or _from_exit(end, stop)


def read_outcome(folder: Path) -> Outcome | None:
    """Return the trainer's own outcome; None where it left none that can be understood."""
    try:
        return Outcome.model_validate_json((folder / OUTCOME_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def never_started(stop: StopRequest) -> Outcome:
    """Return the outcome of an attempt that was asked to leave before it began."""
    if stop.mode == "kill":
        return _failed(Reason.PROCESS_KILLED, 137, "killed before it was started; retry the job")
    return _checkpointed(stop, "stopped before it was started; nothing was lost")


def _from_exit(end: Exit, stop: StopRequest | None) -> Outcome:
    code = _code(end)
    asked = stop is not None and stop.mode == "checkpoint"
    if end.cause == "not_started":
        return never_started(stop or StopRequest("checkpoint", Reason.PLATFORM_STOPPED, 0.0, 0.0))
    if end.cause == "error":
        return _failed(Reason.TRANSIENT_FAILURE, ExitCode.TRANSIENT, f"{end.message}; it is tried again")
    if end.cause in ("memory", "kernel_memory"):
        return _out_of_memory(end, code)
    if end.cause in ("stop", "grace"):
        return _failed(Reason.PROCESS_KILLED, code, f"the trainer {_killed_by(end)}")
    if stop is not None and asked and _left_on_sigterm(code, end.processes):
        return _checkpointed(stop, "stopped before it could save; goes on from the newest checkpoint")
    return _from_code(code, end)


def _from_code(code: int, end: Exit) -> Outcome:
    if code == ExitCode.DONE:
        return Outcome(
            kind=OutcomeKind.SUCCEEDED, exit_code=0, reason=Reason.COMPLETED, message="the trainer finished"
        )
    if code == ExitCode.BAD_CONFIG:
        text = "the trainer refused its configuration (exit 64); its log says which field to change"
        return _failed(Reason.BAD_CONFIG, code, text)
    if code == ExitCode.TRANSIENT:
        text = "the trainer met a passing fault (exit 75); it is tried again, the log has the cause"
        return _failed(Reason.TRANSIENT_FAILURE, code, text)
    if end.signal in (signal.SIGKILL, signal.SIGTERM) or code == ExitCode.CHECKPOINTED:
        text = f"the trainer was ended by {_name(end)}, which the platform did not send; it is tried again"
        return _failed(Reason.PROCESS_KILLED, code, text)
    if end.signal is not None:
        return _failed(Reason.TRAINER_FAILED, code, f"the trainer crashed by {_name(end)}; see its log")
    return _failed(Reason.TRAINER_FAILED, code, f"the trainer failed with exit code {code}; see its log")


def _left_on_sigterm(code: int, processes: int) -> bool:
    """Whether an end without an outcome is that of a trainer that SIGTERM met before its handler did.

    torchrun makes 1 of all its ranks' codes.
    """
    return code == ExitCode.CHECKPOINTED or (processes > 1 and code == 1)


def _out_of_memory(end: Exit, code: int) -> Outcome:
    cause = end.message or "the kernel killed the trainer when the machine had no memory left"
    remedy = "raise resources.memory_gb, or lower per_device_train_batch_size or max_length"
    return _failed(Reason.OUT_OF_MEMORY, code, f"{cause}; {remedy}")


def _checkpointed(stop: StopRequest, message: str) -> Outcome:
    reason = Reason.PLATFORM_STOPPED
    with contextlib.suppress(ValueError):
        reason = Reason(stop.reason)
    return Outcome(
        kind=OutcomeKind.CHECKPOINTED, exit_code=ExitCode.CHECKPOINTED, reason=reason, message=message
    )


def _failed(reason: Reason, code: int, message: str) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, exit_code=code, reason=reason, message=message)


def _killed_by(end: Exit) -> str:
    if end.cause == "stop":
        return f"was {end.message}"
    return f"{end.message}; raise limits.stop_grace_seconds if saving takes longer"


def _code(end: Exit) -> int:
    """Return the exit code, 128 + n for signal n as shells have it."""
    if end.exit_code is not None:
        return end.exit_code
    return _SHELL_SIGNAL_BASE + (end.signal or signal.SIGKILL)


def _name(end: Exit) -> str:
    return signal.Signals(end.signal).name if end.signal else f"exit code {end.exit_code}"
