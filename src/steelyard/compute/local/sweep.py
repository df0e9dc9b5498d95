"""All attempts of one folder at once: stop them for the night, and clear away what has no shim."""

import os
import select
import signal
import time
from pathlib import Path

from steelyard.compute.executor import StopMode
from steelyard.compute.local import files
from steelyard.compute.local.observer import is_live, kill_marked, observe, request_stop
from steelyard.compute.local.processes import Identity, is_alive, open_pidfd, send_signal
from steelyard.specs.states import Reason

_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.01


def stop_all(attempts_dir: Path, grace_seconds: float) -> list[str]:
    """Ask every live attempt below `attempts_dir` to save and leave; returns those it asked, in order.

    Blocks until all have ended: those that take longer than `grace_seconds` are killed by their shims,
    those whose shims don't react by us.
    """
    live = [folder for folder in _attempts(attempts_dir) if is_live(folder)]
    for folder in live:
        request_stop(folder.name, folder, StopMode.CHECKPOINT, grace_seconds, Reason.PLATFORM_STOPPED)
    left = _wait_for(live, grace_seconds + _KILL_SECONDS / 2)
    for folder in left:
        request_stop(folder.name, folder, StopMode.KILL, 0.0, Reason.PLATFORM_STOPPED)
    _wait_for(left, _KILL_SECONDS)
    sweep_orphans(attempts_dir)
    return [folder.name for folder in live]


def sweep_orphans(attempts_dir: Path) -> list[int]:
    """Kill the processes of attempts below `attempts_dir` whose shim is gone; returns their pids.

    Blocks until they are gone, ten seconds at most. Attempts of other folders are left alone.
    """
    dead = {folder.name for folder in _attempts(attempts_dir) if not is_live(folder)}
    dead = {name for name in dead if files.read_claim(attempts_dir / name) is not None}
    # A payload that the kernel kills this very moment may show no marker any more.
    payloads = [files.read_payload(attempts_dir / name) for name in dead]
    killed: set[Identity] = {each for each in payloads if each and send_signal(each, signal.SIGKILL)}
    deadline = time.monotonic() + _KILL_SECONDS
    while dead and time.monotonic() < deadline:
        killed.update(kill_marked(dead))
        if not any(is_alive(identity) for identity in killed):
            break
        time.sleep(_POLL_SECONDS)
    return sorted(identity.pid for identity in killed)


def live_attempts(attempts_dir: Path) -> list[str]:
    """Return the ids of the attempts below `attempts_dir` that have a running shim, in order."""
    return [folder.name for folder in _attempts(attempts_dir) if is_live(folder)]


def _attempts(attempts_dir: Path) -> list[Path]:
    if not attempts_dir.is_dir():
        return []
    return sorted(each for each in attempts_dir.iterdir() if each.is_dir())


def _wait_for(folders: list[Path], timeout_seconds: float) -> list[Path]:
    """Wait until the shims of `folders` have ended; returns those that still run."""
    deadline = time.monotonic() + timeout_seconds
    for folder in folders:
        claim = files.read_claim(folder)
        descriptor = open_pidfd(claim) if claim else None
        if descriptor is None:
            continue
        patience = max(0.0, deadline - time.monotonic())
        select.select([descriptor], [], [], patience)
        os.close(descriptor)
    for folder in folders:
        observe(folder.name, folder, None)
    return [folder for folder in folders if is_live(folder)]
