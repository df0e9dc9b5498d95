"""Exit codes, for scripts. They are part of the command line's contract; `steelyard --help` lists them."""

from enum import IntEnum

from steelyard.client.errors import (
    ClientError,
    ConnectionFailed,
    CredentialsUnreadable,
    SteelyardApiError,
    UnreadableAnswer,
    WaitTimedOut,
)
from steelyard.kit.errors import SteelyardError
from steelyard.specs.states import JobState


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    JOB_CANCELLED = 6
    TIMED_OUT = 7
    UNAUTHORIZED = 8
    PLATFORM_ERROR = 9
    BUDGET_EXCEEDED = 10
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.JOB_FAILED: "the job failed (wait, submit --wait)",
    ExitCode.USAGE: "wrong usage, or a spec that breaks a rule",
    ExitCode.UNREACHABLE: "the platform is stopped or can't be reached",
    ExitCode.NOT_FOUND: "no such thing",
    ExitCode.CONFLICT: "the job's state doesn't allow it",
    ExitCode.JOB_CANCELLED: "the job was cancelled (wait, submit --wait)",
    ExitCode.TIMED_OUT: "not done in the time given",
    ExitCode.UNAUTHORIZED: "no token, or not allowed",
    ExitCode.PLATFORM_ERROR: "the platform answered with an error of its own",
    ExitCode.BUDGET_EXCEEDED: "more than the project's budget has left",
    ExitCode.INTERRUPTED: "Ctrl-C",
}

_BY_STATUS: dict[int, ExitCode] = {
    401: ExitCode.UNAUTHORIZED,
    402: ExitCode.BUDGET_EXCEEDED,
    403: ExitCode.UNAUTHORIZED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    429: ExitCode.UNREACHABLE,
    501: ExitCode.USAGE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}


def exit_code_of_error(error: ClientError | SteelyardError) -> ExitCode:
    """Return the code that an error ends the command with."""
    if isinstance(error, SteelyardApiError | SteelyardError):
        return _of_status(error.http_status)
    if isinstance(error, ConnectionFailed):
        return ExitCode.UNREACHABLE
    if isinstance(error, CredentialsUnreadable):
        return ExitCode.UNAUTHORIZED
    if isinstance(error, WaitTimedOut):
        return ExitCode.TIMED_OUT
    return ExitCode.UNREACHABLE if isinstance(error, UnreadableAnswer) else ExitCode.PLATFORM_ERROR


def exit_code_of_states(states: list[JobState]) -> ExitCode:
    """Return the code for jobs that ended so: the worst of them counts."""
    if JobState.FAILED in states:
        return ExitCode.JOB_FAILED
    return ExitCode.JOB_CANCELLED if JobState.CANCELLED in states else ExitCode.OK


def _of_status(status: int) -> ExitCode:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ExitCode.PLATFORM_ERROR if status >= 500 else ExitCode.USAGE
