"""What can be known of an attempt from its folder and the process table, and how it is asked to leave."""

import shutil
import signal
import time
from pathlib import Path

from steelyard.compute.executor import Observation, Phase, StopMode
from steelyard.compute.local import files
from steelyard.compute.local.faults import explain
from steelyard.compute.local.files import StopRequest
from steelyard.compute.local.outcomes import conclude, never_started, read_outcome
from steelyard.compute.local.processes import Identity, is_alive, marked, send_signal
from steelyard.specs.run import SECRETS_NAME


def observe(attempt_id: str, folder: Path, node: str | None) -> Observation:
    """Return the truth about the attempt now.

    A shim that was killed can leave processes behind (not its payload: the kernel kills that). They are
    killed here, and the attempt counts as stopping until they are gone.
    """
    # The order matters: a shim that claims after `stop` was read is sure to see it.
    stop = files.read_stop(folder)
    claim = files.read_claim(folder)
    if claim is None:
        if stop is None:
            return Observation(Phase.ABSENT)
        return Observation(Phase.ENDED, node, outcome=never_started(stop))
    alive = is_alive(claim)
    payload = files.read_payload(folder)
    if ended := _ended(folder, node, payload):
        return ended
    if not alive:
        return _without_shim(attempt_id, folder, node, claim, payload)
    if payload is None:
        return Observation(Phase.STARTING, node)
    return Observation(Phase.STOPPING if stop else Phase.RUNNING, node, payload.pid)


def request_stop(attempt_id: str, folder: Path, mode: StopMode, grace_seconds: float, reason: str) -> None:
    """Leave a wish in the folder and wake the shim, so that it reads it.

    On a full disk a running attempt is stopped all the same, in the same way but with its own grace.

    Raises:
        StorageFull: the attempt was not launched yet, and the wish can't be left for it.
    """
    if files.read_exit(folder) is not None:
        return
    grace = 0.0 if mode is StopMode.KILL else grace_seconds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_stop(folder, StopRequest(mode.value, reason, time.monotonic() + grace, grace))
    except OSError as error:
        payload = files.read_payload(folder)
        if payload is None:
            raise explain(error.errno, str(error), folder) from error
        if mode is StopMode.KILL:
            send_signal(payload, signal.SIGKILL)
    claim = files.read_claim(folder)
    if claim is not None and not _wake(claim):
        observe(attempt_id, folder, None)


def is_live(folder: Path) -> bool:
    """Whether the attempt has a shim that runs and has not seen it out yet."""
    claim = files.read_claim(folder)
    return claim is not None and is_alive(claim) and files.read_exit(folder) is None


def kill_marked(attempt_ids: set[str]) -> list[Identity]:
    """Kill every process that carries one of the markers; returns those that were alive."""
    found = [identity for identity, marker in marked() if marker in attempt_ids]
    for identity in found:
        send_signal(identity, signal.SIGKILL)
    return found


def _ended(folder: Path, node: str | None, payload: Identity | None) -> Observation | None:
    end = files.read_exit(folder)
    if end is None:
        return None
    outcome = conclude(folder, end, files.read_stop(folder))
    return Observation(Phase.ENDED, node, payload.pid if payload else None, outcome)


def _without_shim(
    attempt_id: str, folder: Path, node: str | None, claim: Identity, payload: Identity | None
) -> Observation:
    shutil.rmtree(folder / SECRETS_NAME, ignore_errors=True)
    pid = payload.pid if payload else None
    survivors = [payload] if payload and send_signal(payload, signal.SIGKILL) else []
    survivors += kill_marked({attempt_id})
    if survivors:
        return Observation(Phase.STOPPING, node, pid, message="its shim was killed; what is left is killed")
    # The shim may have written its last between our look at the file and our look at the process.
    if ended := _ended(folder, node, payload):
        return ended
    if outcome := read_outcome(folder):
        return Observation(Phase.ENDED, node, pid, outcome)
    text = f"its shim (pid {claim.pid}) was killed or the machine was started anew; it left no outcome"
    return Observation(Phase.LOST, node, pid, message=text)


def _wake(shim: Identity) -> bool:
    woken = send_signal(shim, signal.SIGTERM)
    if woken:
        send_signal(shim, signal.SIGCONT)
    return woken
