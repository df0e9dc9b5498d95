"""`steelyard up`: start the supervisor in the background and wait until the platform can take jobs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from steelyard.kit.errors import SteelyardError
from steelyard.kit.home import HOME_VARIABLE
from steelyard.server.embedded.files import read_tail
from steelyard.server.embedded.folders import prepare_home
from steelyard.server.embedded.state import (
    Overall,
    PlatformState,
    ProcessRecord,
    ProcessState,
    live_state,
    read_state,
)
from steelyard.server.home import HomeLayout

SUPERVISOR = (sys.executable, "-m", "steelyard.server.embedded.supervisor")
_POLL_SECONDS = 0.05
_STOPPING_SECONDS = 120.0
_HANDOVER_SECONDS = 10.0
_FAILURES_TO_GIVE_UP = 5
_TAIL_LINES = 15

Progress = Callable[[PlatformState | None], None]


class StartFailed(SteelyardError):
    """The platform isn't ready. `details` may hold `log` (a path) and `tail` (its last lines)."""

    code = "start_failed"
    http_status = 503


@dataclass(frozen=True)
class Started:
    """A ready platform. `already` says that it ran before."""

    state: PlatformState
    already: bool


def start_platform(
    layout: HomeLayout,
    *,
    timeout_seconds: float,
    on_progress: Progress,
    supervisor: tuple[str, ...] = SUPERVISOR,
) -> Started:
    """Bring the platform of a home up, or find it up. Returns when it can take jobs.

    Ending the caller while it waits leaves the platform as it is: starting or running.

    Raises:
        StartFailed: it isn't ready in time, or can't be; says why, with the log's last lines.
        PermissionDenied, StorageFull: the home can't be used.
    """
    deadline = time.monotonic() + timeout_seconds
    state = _after_stopping(layout)
    if state is not None and state.state is not Overall.STARTING:
        return Started(state, already=True)
    prepare_home(layout)
    process = None if state else _spawn(layout, supervisor)
    while True:
        state = _current(layout, process)
        on_progress(state)
        if state and state.ready:
            return Started(state, already=process is None)
        if state and (culprit := _hopeless(state)):
            raise _blame(culprit, f"{culprit.name} fails again and again: {culprit.message}")
        if time.monotonic() > deadline:
            raise _late(state, timeout_seconds)
        time.sleep(_POLL_SECONDS)


def _after_stopping(layout: HomeLayout) -> PlatformState | None:
    deadline = time.monotonic() + _STOPPING_SECONDS
    while (state := live_state(layout)) and state.state in (Overall.STOPPING, Overall.STOPPED):
        if time.monotonic() > deadline:
            raise StartFailed(
                f"the platform is stopping since {_STOPPING_SECONDS:.0f} s; end its supervisor with "
                f"`kill -9 {state.supervisor.pid}` and try again"
            )
        time.sleep(_POLL_SECONDS)
    return None if state and state.state is Overall.FAILED else state


def _spawn(layout: HomeLayout, supervisor: tuple[str, ...]) -> subprocess.Popen[bytes]:
    with _stderr_file(layout).open("wb") as errors:
        return subprocess.Popen(
            supervisor,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd="/",
            start_new_session=True,
            env=_environment(layout),
        )


def _environment(layout: HomeLayout) -> dict[str, str]:
    return {**os.environ, HOME_VARIABLE: str(layout.root)}


def _current(layout: HomeLayout, process: subprocess.Popen[bytes] | None) -> PlatformState | None:
    if process is None or process.poll() is None:
        return live_state(layout)
    state = read_state(layout)
    if state and state.supervisor.pid == process.pid and state.state is Overall.FAILED:
        raise StartFailed(state.error or "the supervisor could not begin", reason=state.error_code)
    # Another `up` may have been quicker; then its supervisor is ours too.
    return live_state(layout) or _other_supervisor(layout)


def _other_supervisor(layout: HomeLayout) -> PlatformState:
    code, message = _last_words(layout)
    deadline = time.monotonic() + (_HANDOVER_SECONDS if code == "conflict" else 0)
    while time.monotonic() < deadline:
        if state := live_state(layout):
            return state
        time.sleep(_POLL_SECONDS)
    raise StartFailed(message, log=str(layout.log("supervisor")), reason=code)


def _last_words(layout: HomeLayout) -> tuple[str, str]:
    lines = read_tail(_stderr_file(layout), _TAIL_LINES)
    try:
        parsed: object = json.loads(lines[-1])
        if isinstance(parsed, dict):
            words = cast("dict[str, Any]", parsed)
            return str(words["code"]), str(words["message"])
    except (IndexError, ValueError, KeyError):
        pass
    said = " / ".join(lines[-3:]) or "nothing"
    return "internal_error", f"the supervisor ended at once; it said: {said}; see {layout.log('supervisor')}"


def _hopeless(state: PlatformState) -> ProcessRecord | None:
    for record in state.processes:
        if record.essential and record.failures >= _FAILURES_TO_GIVE_UP:
            return record
    return None


def _late(state: PlatformState | None, timeout_seconds: float) -> StartFailed:
    settled = (ProcessState.RUNNING, ProcessState.DONE, ProcessState.DISABLED)
    waiting = [r for r in (state.processes if state else ()) if r.essential and r.state not in settled]
    waiting.sort(key=lambda record: record.state is ProcessState.WAITING)
    message = f"not ready after {timeout_seconds:.0f} s"
    if not waiting:
        return StartFailed(f"{message}; `steelyard status` shows how far it is")
    return _blame(waiting[0], f"{message}: {waiting[0].name} is {waiting[0].state.value}")


def _blame(record: ProcessRecord, message: str) -> StartFailed:
    return StartFailed(
        f"{message}. Its log is {record.log}. The supervisor goes on trying; `steelyard doctor` looks for "
        "causes, `steelyard down` stops it.",
        log=record.log,
        tail=read_tail(Path(record.log), _TAIL_LINES),
    )


def _stderr_file(layout: HomeLayout) -> Path:
    return layout.logs / "supervisor.stderr"
