"""Telling a process from a later one with the same pid: pid, moment of start, boot.

Linux: `/proc/<pid>/stat` field 22 (proc(5): start time in clock ticks since boot).
"""

from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
_STATE_FIELD = 0
_SESSION_FIELD = 3
_START_FIELD = 19


class ProcessIdentity(BaseModel):
    """Names one process for all time."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start: int
    """Linux: clock ticks since boot. Elsewhere: milliseconds since the epoch."""
    boot: str


def identify(pid: int) -> ProcessIdentity | None:
    """Return who `pid` is now; None if it isn't there or is a zombie."""
    start = _start_of(pid)
    return None if start is None else ProcessIdentity(pid=pid, start=start, boot=_boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Say whether this very process still runs."""
    return identify(identity.pid) == identity


def session_members(leader_pid: int, mark: str) -> list[ProcessIdentity]:
    """Find the processes of the session that `leader_pid` opened, the leader included.

    Args:
        mark: an entry (`NAME=value`) that their environment must hold, so that a session which got the same
            number later isn't taken for this one.
    """
    return [
        identity
        for pid in psutil.pids()
        if _session_of(pid) == leader_pid and _has_mark(pid, mark) and (identity := identify(pid)) is not None
    ]


def _start_of(pid: int) -> int | None:
    if not _BOOT_ID.exists():
        return _portable_start(pid)
    fields = _stat_fields(pid)
    if fields is None or fields[_STATE_FIELD] in ("Z", "X"):
        return None
    return int(fields[_START_FIELD])


def _portable_start(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        return None


def _session_of(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[_SESSION_FIELD]) if fields else None


def _stat_fields(pid: int) -> list[str] | None:
    # The name, in parentheses, may hold spaces and parentheses itself; what follows the last one is regular.
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
