"""What the supervisor is told about each process that it keeps alive."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

Probe = Callable[[], Awaitable[bool]]
"""Says whether the process answers now. Never raises for one that doesn't; the caller bounds its time."""


@dataclass(frozen=True)
class Account:
    """A user of this machine that a process runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class ProcessSpec:
    """One process. `environment` is its whole environment; no secret may stand in `argv`."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    probe: Probe | None = None
    """None: it is ready as soon as it runs."""
    prepare: Callable[[], None] | None = None
    """Runs in a thread before every start; may be repeated, may raise SteelyardError or OSError."""
    on_ready: Callable[[], Awaitable[None]] | None = None
    """Runs after every start, before the process counts as ready."""
    depends_on: tuple[str, ...] = ()
    """Starts for the first time after these were ready."""
    yields_to: tuple[str, ...] = ()
    """Lets these become ready first, but waits `yield_seconds` at most."""
    yield_seconds: float = 10.0
    account: Account | None = None
    """None: ours."""
    niceness: int = 0
    essential: bool = True
    """The platform isn't ready without it."""
    once: bool = False
    """Runs to its end, with exit code 0, and isn't started again then."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_seconds: float = 10.0
    stop_phase: int = 1
    """Lower phases stop first. Phase 0 stops before trainers are asked to leave."""
    start_timeout_seconds: float = 60.0
    disabled: str | None = None
    """Why it isn't to be started here."""
