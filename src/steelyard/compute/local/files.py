"""The files by which launchers, shims and observers of an attempt talk, all in the attempt's folder.

Each is written whole or not at all. Who writes what:

- `run.json`, `token`, `launch.json`: the launcher, under the lock on `launch.lock`.
- `shim.json`: the shim's claim. It is made by `link`, so of any number of shims exactly one gets it, and
  it is never removed: an attempt that has a claim is never started again.
- `payload.json`: the shim, after it started the payload.
- `stop.json`: whoever asks the attempt to leave. It sticks: a launch after it starts nothing.
- `exit.json`: the shim, when no process of the attempt is left. Its room on the disk is taken with the
  claim, so that a full disk can't swallow an attempt's end.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from steelyard.compute.local.processes import Identity

LAUNCH_LOCK = "launch.lock"
LAUNCH_FILE = "launch.json"
CLAIM_FILE = "shim.json"
PAYLOAD_FILE = "payload.json"
STOP_FILE = "stop.json"
EXIT_FILE = "exit.json"
LOG_FOLDER = "log"
SHIM_LOG = "shim.log"

_EXIT_RESERVE = ".exit.reserve"
_EXIT_BYTES = 4096


class Launch(NamedTuple):
    """What a shim is told. `environment` is the payload's whole environment."""

    attempt_id: str
    module: str
    run_file: str
    python: str
    processes: int
    grace_seconds: float
    memory_limit_bytes: int | None
    environment: dict[str, str]
    log_segment_bytes: int = 4 << 20
    log_segments: int = 8


class StopRequest(NamedTuple):
    """A wish that an attempt leave; `deadline` is a reading of this machine's monotonic clock, seconds."""

    mode: str
    reason: str
    deadline: float
    grace_seconds: float


class Exit(NamedTuple):
    """How the payload's main process ended, in the kernel's words, and whether the shim had a hand in it.

    `cause`: `payload` (by itself), `stop` (killed on request), `grace` (outstayed its grace), `memory`
    (outgrew its limit), `kernel_memory` (killed as the kernel ran out of memory), `not_started` (was to
    stop before it began), `error` (could not be started).
    """

    cause: str
    exit_code: int | None
    signal: int | None
    started_at: str
    ended_at: str
    message: str
    processes: int = 1


Record = TypeVar("Record", Identity, Launch, StopRequest, Exit)


def write_atomic(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = False) -> None:
    """Replace `path` by a file of exactly `mode`, whole at every moment. Durable: through to the disk."""
    temporary = _write_beside(path, data, mode, durable=durable)
    os.replace(temporary, path)
    if durable:
        _sync_folder(path.parent)


def write_launch(folder: Path, launch: Launch) -> None:
    """Write the shim's orders; private, since an environment can hold what is nobody's business."""
    write_atomic(folder / LAUNCH_FILE, _encode(launch), 0o600)


def read_launch(folder: Path) -> Launch:
    """Read the shim's orders; raises OSError or ValueError where there are none."""
    return _known(Launch, json.loads((folder / LAUNCH_FILE).read_bytes()))


def claim(folder: Path, identity: Identity) -> bool:
    """Make the attempt this process's own; False where another process ever did so.

    Raises:
        OSError: the claim can't be written; nobody has it then.
    """
    _write_reserve(folder)
    temporary = _write_beside(folder / CLAIM_FILE, _encode(identity), 0o644, durable=True)
    try:
        os.link(temporary, folder / CLAIM_FILE)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(folder)
    return True


def read_claim(folder: Path) -> Identity | None:
    """Return who has the attempt. A claim that a power cut damaged names a process that can't exist."""
    found = _read(folder / CLAIM_FILE)
    if found is None:
        return None
    return _known(Identity, found) if found else Identity(0, 0, "")


def write_payload(folder: Path, identity: Identity) -> None:
    """Record the payload's main process."""
    write_atomic(folder / PAYLOAD_FILE, _encode(identity))


def read_payload(folder: Path) -> Identity | None:
    """Return the payload's main process, None before it was started."""
    found = _read(folder / PAYLOAD_FILE)
    return _known(Identity, found) if found else None


def write_stop(folder: Path, stop: StopRequest) -> StopRequest:
    """Add a wish to leave to those that came before, and return what they make together.

    Killing beats saving, an earlier deadline a later one; the first reason stays. Two writers at once
    may lose one wish; whoever asked sees that nothing happens and asks again.
    """
    merged = _merge(read_stop(folder), stop)
    write_atomic(folder / STOP_FILE, _encode(merged))
    return merged


def read_stop(folder: Path) -> StopRequest | None:
    """Return the wish to leave, if there is one."""
    found = _read(folder / STOP_FILE)
    return _known(StopRequest, found) if found else None


def write_exit(folder: Path, end: Exit) -> None:
    """Record the end, in the room that the claim reserved."""
    data = _encode(end).ljust(_EXIT_BYTES)
    reserve = folder / _EXIT_RESERVE
    descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, data, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(reserve, folder / EXIT_FILE)
    _sync_folder(folder)


def read_exit(folder: Path) -> Exit | None:
    """Return the end, None while there is none."""
    found = _read(folder / EXIT_FILE)
    return _known(Exit, found) if found else None


def _merge(old: StopRequest | None, new: StopRequest) -> StopRequest:
    if old is None:
        return new
    mode = "kill" if "kill" in (old.mode, new.mode) else old.mode
    first = old if old.deadline <= new.deadline else new
    return StopRequest(mode, old.reason, first.deadline, first.grace_seconds)


def _encode(value: Any) -> bytes:
    return json.dumps(value._asdict()).encode()


def _known(kind: type[Record], found: dict[str, Any]) -> Record:
    """Make a record of what we know of it: attempts outlive upgrades, so a file may say more."""
    return kind(**{name: found[name] for name in kind._fields if name in found})


def _read(path: Path) -> dict[str, Any] | None:
    """Return a file's object, `{}` for one that can't be understood, None for one that isn't there."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _write_reserve(folder: Path) -> None:
    path = folder / _EXIT_RESERVE
    if not path.exists():
        write_atomic(path, b" " * _EXIT_BYTES)


def _write_beside(path: Path, data: bytes, mode: int, *, durable: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        _write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return temporary


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
