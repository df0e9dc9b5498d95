"""`steelyard status`: how the platform of a home is, from what its supervisor writes."""

import time

from pydantic import BaseModel, ConfigDict

from steelyard.kit.errors import Unavailable
from steelyard.server.embedded.identity import is_alive
from steelyard.server.embedded.state import (
    Overall,
    PlatformState,
    ProcessRecord,
    ProcessState,
    read_state,
)
from steelyard.server.embedded.survivors import find_survivors
from steelyard.server.home import HomeLayout, PlatformAddresses, read_platform


class ProcessStatus(BaseModel):
    """One process. `pid` and `uptime_seconds` are there while it lives."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int | None
    state: ProcessState
    restarts: int
    uptime_seconds: float | None
    log: str
    message: str | None = None


class PlatformStatus(BaseModel):
    """The platform. `api_url` is None before the first start."""

    model_config = ConfigDict(frozen=True)

    home: str
    state: Overall
    api_url: str | None
    mlflow_url: str | None
    temporal_ui_url: str | None
    supervisor_pid: int | None
    uptime_seconds: float | None
    processes: tuple[ProcessStatus, ...]
    notes: tuple[str, ...]


def read_status(layout: HomeLayout) -> PlatformStatus:
    """Return how the platform of `layout` is now. Writes nothing, asks no process."""
    state = read_state(layout)
    addresses = _addresses(layout)
    alive = state is not None and is_alive(state.supervisor) and state.state is not Overall.FAILED
    return PlatformStatus(
        home=str(layout.root),
        state=state.state if state and alive else Overall.STOPPED,
        api_url=addresses.api_url if addresses else None,
        mlflow_url=addresses.mlflow_url if addresses else None,
        temporal_ui_url=addresses.temporal_ui_url if addresses else None,
        supervisor_pid=state.supervisor.pid if state and alive else None,
        uptime_seconds=round(time.time() - state.started_at, 1) if state and alive else None,
        processes=tuple(_describe(record, alive) for record in (state.processes if state else ())),
        notes=_notes(layout, state, alive),
    )


def _addresses(layout: HomeLayout) -> PlatformAddresses | None:
    try:
        return read_platform(layout.root)
    except Unavailable:
        return None


def _describe(record: ProcessRecord, supervised: bool) -> ProcessStatus:
    alive = supervised and record.identity is not None and is_alive(record.identity)
    lasting = record.state in (ProcessState.DISABLED, ProcessState.DONE)
    started = record.started_at
    return ProcessStatus(
        name=record.name,
        pid=record.identity.pid if record.identity and alive else None,
        state=record.state if supervised or lasting else ProcessState.STOPPED,
        restarts=record.restarts,
        uptime_seconds=round(time.time() - started, 1) if started and alive else None,
        log=record.log,
        message=record.message,
    )


def _notes(layout: HomeLayout, state: PlatformState | None, alive: bool) -> tuple[str, ...]:
    if state is None:
        return ()
    notes = list(state.notes)
    if not alive and state.error:
        notes.append(f"the last start failed: {state.error}")
    if not alive and (left := find_survivors(layout, state)):
        notes.append(
            f"the supervisor died and left {', '.join(left)}; `steelyard up` starts all again, "
            "`steelyard down` stops them"
        )
    return tuple(notes)
