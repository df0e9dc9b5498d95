"""Processes that outlived their supervisor: found by what it wrote last, and stopped.

The kernel asks each of them to leave at the supervisor's death; here we make sure of it. Training isn't
among them: its processes have sessions of their own.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable

from steelyard.server.embedded.identity import ProcessIdentity, is_alive, session_members
from steelyard.server.embedded.state import PlatformState, ProcessRecord, mark_of
from steelyard.server.home import HomeLayout

_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.02


def find_survivors(layout: HomeLayout, state: PlatformState | None) -> dict[str, list[ProcessIdentity]]:
    """Return the live processes of a dead supervisor, by name."""
    if state is None or is_alive(state.supervisor):
        return {}
    found = {record.name: _members(layout, record) for record in state.processes if record.identity}
    return {name: members for name, members in found.items() if members}


async def stop_survivors(
    layout: HomeLayout,
    state: PlatformState | None,
    *,
    phases: Iterable[int] | None = None,
    grace_seconds: float = _GRACE_SECONDS,
) -> list[str]:
    """Stop what a dead supervisor left, all at once: by its stop signal, then by SIGKILL.

    Args:
        phases: stop only processes of these stop phases; None is all of them.

    Returns: names of what was found alive.
    """
    wanted = None if phases is None else set(phases)
    survivors = find_survivors(layout, state)
    records = [record for record in (state.processes if state else ()) if record.name in survivors]
    chosen = [record for record in records if wanted is None or record.stop_phase in wanted]
    mains = [record.identity for record in chosen if record.identity]
    for record in chosen:
        _send([record.identity] if record.identity else [], signal.Signals(record.stop_signal))
    if not await _gone(mains, grace_seconds):
        _send(mains, signal.SIGKILL)
    # Nobody tells the others of its session anything, once the main process has gone.
    left = [member for record in chosen for member in _members(layout, record)]
    _send(left, signal.SIGKILL)
    await _gone([*mains, *left], grace_seconds)
    return [record.name for record in chosen]


def _members(layout: HomeLayout, record: ProcessRecord) -> list[ProcessIdentity]:
    main = record.identity
    if main is None:
        return []
    others = session_members(main.pid, mark_of(layout, record.name))
    return ([main] if is_alive(main) else []) + [other for other in others if other != main]


def _send(targets: Iterable[ProcessIdentity], number: signal.Signals) -> None:
    for target in targets:
        if is_alive(target):
            with contextlib.suppress(ProcessLookupError):
                os.kill(target.pid, number)


async def _gone(targets: list[ProcessIdentity], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while any(is_alive(target) for target in targets):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
