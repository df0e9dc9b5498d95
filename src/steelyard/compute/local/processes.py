"""Processes as the Linux kernel shows them: identity, life, descent, memory, signals.

A pid alone names nothing, because pids are used again; `Identity` names one process for all time. A
zombie counts as dead: in a container there may be nobody who ever reaps it.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

MARKER = "STEELYARD_ATTEMPT"
"""The environment variable that every process of an attempt carries, the attempt's id its value."""

_PROC = "/proc"
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Identity(NamedTuple):
    """One process: its pid, its start in clock ticks since boot, and the boot."""

    pid: int
    start_ticks: int
    boot_id: str


class Stat(NamedTuple):
    """What `/proc/<pid>/stat` says."""

    state: str
    parent: int
    start_ticks: int


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has `pid` now, zombies included."""
    stat = read_stat(pid)
    return Identity(pid, stat.start_ticks, boot_id()) if stat else None


def is_alive(identity: Identity) -> bool:
    """Whether that very process still runs."""
    if identity.boot_id != boot_id():
        return False
    stat = read_stat(identity.pid)
    return stat is not None and stat.start_ticks == identity.start_ticks and stat.state not in "ZXx"


def read_stat(pid: int) -> Stat | None:
    """Read `/proc/<pid>/stat`; None where there is no such process."""
    fields = _stat_fields(pid)
    return Stat(fields[0], int(fields[1]), int(fields[19])) if fields else None


def open_pidfd(identity: Identity) -> int | None:
    """Open a descriptor that is readable once the process has ended; None where it has."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if is_alive(identity):
        return descriptor
    os.close(descriptor)
    return None


def send_signal(identity: Identity, number: int) -> bool:
    """Signal that very process, never one that has its pid now; False where it has ended."""
    descriptor = open_pidfd(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def descendants(pid: int) -> list[int]:
    """Return all children of `pid` and theirs, zombies left out, parents before children."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for each in _all_pids():
        stat = read_stat(each)
        if stat is None:
            continue
        children.setdefault(stat.parent, []).append(each)
        if stat.state in "ZXx":
            dead.add(each)
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found.extend(below)
        queue.extend(below)
    return [each for each in found if each not in dead]


def marked() -> Iterator[tuple[Identity, str]]:
    """Yield every live process that carries the marker, with the attempt's id, as far as we may look."""
    prefix = f"{MARKER}=".encode()
    for pid in _all_pids():
        value = _environment_value(pid, prefix)
        identity = identify(pid) if value else None
        if value and identity and is_alive(identity):
            yield identity, value


def resident_bytes(pids: list[int]) -> int:
    """Return the memory that the processes have in RAM; pages that they share count for each."""
    total = 0
    for pid in pids:
        text = _read_text(f"{_PROC}/{pid}/statm")
        total += int(text.split()[1]) * _PAGE_BYTES if text else 0
    return total


def proportional_bytes(pids: list[int]) -> int:
    """Return the memory that the processes have in RAM, shared pages divided among those that share.

    Costs a walk through the page tables: milliseconds for each gigabyte.
    """
    total = 0
    for pid in pids:
        text = _read_text(f"{_PROC}/{pid}/smaps_rollup") or ""
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def kernel_memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since boot."""
    for line in (_read_text(f"{_PROC}/vmstat") or "").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def adopt_orphans() -> None:
    """Make this process the new parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; ends now if it has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)


def set_name(name: str) -> None:
    """Name the process as `ps` and `top` show it; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def set_oom_score(value: int) -> None:
    """Make the kernel less (negative) or more likely to kill this process; ignored where not allowed."""
    with contextlib.suppress(OSError):
        Path(f"{_PROC}/self/oom_score_adj").write_text(str(value))


def stamp_marker(attempt_id: str) -> None:
    """Write the marker over the room that this process was started with (see `forkserver`).

    The kernel shows the environment as it was at `exec`; a forked process that never calls it has to
    change those very bytes to be found by `marked`.
    """
    prefix = f"{MARKER}=".encode()
    fields = _stat_fields(os.getpid())
    start, end = int(fields[47]), int(fields[48])
    room = ctypes.string_at(start, end - start)
    at = room.find(b"\0" + prefix) + 1
    if at == 0 and not room.startswith(prefix):
        return
    length = room.index(b"\0", at) - at - len(prefix)
    if len(attempt_id) <= length:
        ctypes.memmove(start + at + len(prefix), attempt_id.encode().ljust(length, b"\0"), length)


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path(f"{_PROC}/sys/kernel/random/boot_id").read_text().strip()


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _stat_fields(pid: int) -> list[str]:
    text = _read_text(f"{_PROC}/{pid}/stat")
    return text[text.rindex(")") + 2 :].split() if text else []


def _environment_value(pid: int, prefix: bytes) -> str | None:
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            data = file.read()
    except OSError:
        return None
    for entry in data.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace").strip()
    return None


def _read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
