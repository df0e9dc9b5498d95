"""What the supervisor knows, as others read it: `run/state.json`, replaced whole at every change."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from steelyard.server.embedded.files import write_atomically
from steelyard.server.embedded.identity import ProcessIdentity, is_alive
from steelyard.server.home import HomeLayout

_MARK_VARIABLE = "STEELYARD_SUPERVISED"


class ProcessState(StrEnum):
    """How one process is."""

    WAITING = "waiting"
    """For one that it depends on."""
    STARTING = "starting"
    RUNNING = "running"
    UNRESPONSIVE = "unresponsive"
    """Lives, but its probe failed several times in a row. It isn't killed for that."""
    RESTARTING = "restarting"
    """Ended; comes again after a pause."""
    DONE = "done"
    """Ran to its end once, as meant."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    DISABLED = "disabled"


class Overall(StrEnum):
    """How the platform is."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """The supervisor couldn't begin; `error` says why."""


class ProcessRecord(BaseModel):
    """One process. `identity` is there while it lives."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: ProcessState
    identity: ProcessIdentity | None = None
    restarts: int = 0
    failures: int = 0
    """Ends in a row with less than half a minute of life between them."""
    started_at: float | None = None
    """Seconds since the epoch."""
    essential: bool = True
    message: str | None = None
    stop_signal: int
    stop_phase: int
    log: str


class PlatformState(BaseModel):
    """The whole platform. After a crash this is what the dead supervisor last wrote."""

    model_config = ConfigDict(frozen=True)

    supervisor: ProcessIdentity
    state: Overall
    started_at: float
    ready: bool = False
    """Every essential process has been ready since this supervisor began."""
    error: str | None = None
    error_code: str | None = None
    notes: tuple[str, ...] = ()
    processes: tuple[ProcessRecord, ...] = ()
    stopped_attempts: tuple[str, ...] = ()
    """Trainings that the ordered end asked to save and leave."""


def read_state(layout: HomeLayout) -> PlatformState | None:
    """Return what was last written; None if nothing was, or nothing that can be read."""
    try:
        return PlatformState.model_validate_json(layout.state_file.read_bytes())
    except (OSError, ValueError):
        return None


def write_state(layout: HomeLayout, state: PlatformState) -> None:
    """Publish `state`. It speaks of this boot only, so it needn't survive a power cut."""
    write_atomically(layout.state_file, state.model_dump_json().encode(), 0o600, durable=False)


def live_state(layout: HomeLayout) -> PlatformState | None:
    """Return what was last written if its supervisor still lives."""
    state = read_state(layout)
    return state if state and is_alive(state.supervisor) else None


def mark_of(layout: HomeLayout, process: str) -> str:
    """Return the environment entry by which a supervised process is known after its supervisor died."""
    return f"{_MARK_VARIABLE}={process}@{layout.digest}"
