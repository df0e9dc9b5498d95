"""`steelyard down`: workers, then trainers with a checkpoint, then api, MLflow, Temporal, PostgreSQL.

The supervisor does it, if it lives. If it doesn't, the caller does the same with what it left.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from steelyard.compute.local.sweep import stop_all
from steelyard.kit.errors import Conflict, Unavailable
from steelyard.server.embedded.files import write_atomically
from steelyard.server.embedded.identity import ProcessIdentity, is_alive
from steelyard.server.embedded.lock import hold_home
from steelyard.server.embedded.state import (
    Overall,
    PlatformState,
    ProcessState,
    live_state,
    read_state,
    write_state,
)
from steelyard.server.embedded.survivors import stop_survivors
from steelyard.server.home import HomeLayout

_SLACK_SECONDS = 120.0
_POLL_SECONDS = 0.05
_HANDOVER_SECONDS = 5.0
_LIVE = (ProcessState.STARTING, ProcessState.RUNNING, ProcessState.UNRESPONSIVE, ProcessState.STOPPING)

Progress = Callable[[PlatformState | None], None]


@dataclass(frozen=True)
class Stopped:
    """What was stopped; both empty where nothing ran."""

    processes: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()
    supervisor_was_dead: bool = False


def stop_platform(
    layout: HomeLayout, *, grace_seconds: float, on_progress: Progress = lambda _state: None
) -> Stopped:
    """Stop everything of one home. Does nothing where nothing runs.

    Args:
        grace_seconds: how long trainers may take to save.

    Raises:
        Unavailable: the supervisor doesn't end.
        Conflict: somebody starts or stops this home at the same moment.
    """
    if not layout.run.is_dir():
        return Stopped()
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while True:
        state = live_state(layout)
        if state is not None and state.state is not Overall.FAILED:
            return _stop_living(layout, state, grace_seconds, on_progress)
        try:
            with hold_home(layout):
                return asyncio.run(_stop_leftovers(layout, read_state(layout), grace_seconds))
        except Conflict:
            # A supervisor has the home but hasn't written its state yet.
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _stop_living(
    layout: HomeLayout, state: PlatformState, grace_seconds: float, on_progress: Progress
) -> Stopped:
    names = tuple(record.name for record in state.processes if record.state in _LIVE)
    request = {"grace_seconds": grace_seconds}
    write_atomically(layout.run / "stop.json", json.dumps(request).encode(), durable=False)
    os.kill(state.supervisor.pid, signal.SIGTERM)
    _wait_for_end(layout, state.supervisor, grace_seconds + _SLACK_SECONDS, on_progress)
    (layout.run / "stop.json").unlink(missing_ok=True)
    final = read_state(layout)
    if final is None or final.state is not Overall.STOPPED:
        # It was killed while it stopped.
        with hold_home(layout):
            rest = asyncio.run(_stop_leftovers(layout, final, grace_seconds))
        return Stopped(names, rest.attempts, supervisor_was_dead=True)
    return Stopped(names, final.stopped_attempts)


def _wait_for_end(
    layout: HomeLayout, supervisor: ProcessIdentity, timeout_seconds: float, on_progress: Progress
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while is_alive(supervisor):
        on_progress(live_state(layout))
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the supervisor (pid {supervisor.pid}) didn't end within {timeout_seconds:.0f} s; "
                f"`kill -9 {supervisor.pid}`, then `steelyard down` again cleans up what is left"
            )
        time.sleep(_POLL_SECONDS)


async def _stop_leftovers(layout: HomeLayout, state: PlatformState | None, grace_seconds: float) -> Stopped:
    stopped = await stop_survivors(layout, state, phases=[0])
    attempts = await asyncio.to_thread(stop_all, layout.attempts, grace_seconds)
    for phase in sorted({record.stop_phase for record in (state.processes if state else ())}):
        stopped += await stop_survivors(layout, state, phases=[phase])
    if state is not None:
        ended = tuple(
            record.model_copy(update={"identity": None, "state": ProcessState.STOPPED})
            for record in state.processes
        )
        write_state(layout, state.model_copy(update={"state": Overall.STOPPED, "processes": ended}))
    return Stopped(tuple(stopped), tuple(attempts), supervisor_was_dead=bool(stopped or attempts))
