"""`python -m steelyard.server.embedded.supervisor`: keeps all processes of one home alive until SIGTERM.

Crash-only: it may be killed at any line. Its children are told to leave then, training goes on, and the next
`steelyard up` stops what is left and starts all again.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import replace

import structlog

from steelyard.compute.local.sweep import stop_all
from steelyard.kit.errors import SteelyardError
from steelyard.kit.home import endpoint_file
from steelyard.server.embedded.child import Child
from steelyard.server.embedded.files import write_atomically
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.identity import ProcessIdentity, identify
from steelyard.server.embedded.journal import open_journal
from steelyard.server.embedded.lock import hold_home
from steelyard.server.embedded.metrics import serve_figures
from steelyard.server.embedded.platform import Composer, Platform, compose_platform
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.embedded.state import (
    Overall,
    PlatformState,
    ProcessRecord,
    ProcessState,
    mark_of,
    read_state,
    write_state,
)
from steelyard.server.embedded.survivors import stop_survivors
from steelyard.server.home import HomeLayout
from steelyard.server.object_store import bring_last_checkpoints
from steelyard.server.settings import Settings

DEFAULT_GRACE_SECONDS = 30.0
TRAINERS_PHASE = 0
_SETTLED = (ProcessState.RUNNING, ProcessState.DONE, ProcessState.DISABLED)
_BROKEN = (ProcessState.RESTARTING, ProcessState.UNRESPONSIVE, ProcessState.STOPPED)
_log = structlog.get_logger()


def main(compose: Composer = compose_platform) -> int:
    """Run the supervisor of the home that the environment names. Returns the exit code."""
    settings = Settings()
    layout = HomeLayout(settings.home.expanduser().absolute())
    try:
        prepare_home(layout)
        open_journal(layout, console="--foreground" in sys.argv)
        with hold_home(layout):
            return asyncio.run(_supervise(layout, settings, compose))
    except SteelyardError as error:
        # Before the home is ours, its state file isn't either: the caller reads this line.
        print(json.dumps({"code": error.code, "message": error.message}), file=sys.stderr)  # noqa: T201
        return 1


class Supervisor:
    """The children of one home, their common state, and their ordered end."""

    def __init__(self, layout: HomeLayout, platform: Platform, identity: ProcessIdentity) -> None:
        self._layout = layout
        self._platform = platform
        self._identity = identity
        self._began_at = time.time()
        self._state = Overall.STARTING
        self._was_ready = False
        self._stopped_attempts: tuple[str, ...] = ()
        self._stop = asyncio.Event()
        ready = {spec.name: asyncio.Event() for spec in platform.processes}
        self._children = [
            Child(_marked(spec, layout), layout.log(spec.name), ready, self._publish)
            for spec in platform.processes
        ]

    async def run(self) -> None:
        """Start everything; return after the ordered end that `stop` or a signal asks for."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._publish()
        figures = await self._open_figures()
        tasks = {child.spec.name: asyncio.create_task(child.run()) for child in self._children}
        stop = asyncio.create_task(self._stop.wait())
        # A child's task ends early only by a defect of ours; then it's better to end and be started again.
        await asyncio.wait([stop, asyncio.create_task(_first_failure(tasks))], return_when="FIRST_COMPLETED")
        stop.cancel()
        await self._shut_down(tasks)
        if figures:
            figures.close()

    def stop(self) -> None:
        """Ask for the ordered end. May be called again."""
        self._stop.set()

    async def _open_figures(self) -> asyncio.Server | None:
        """Without figures the platform is still worth running."""
        port = self._platform.addresses.supervisor_metrics_port
        try:
            return await serve_figures(port, self._records) if port else None
        except OSError as error:
            _log.warning("no figures of the supervisor", port=port, reason=str(error))
            return None

    def _records(self) -> tuple[ProcessRecord, ...]:
        return tuple(child.record() for child in self._children)

    async def _shut_down(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        self._state = Overall.STOPPING
        self._publish()
        for phase in sorted({child.spec.stop_phase for child in self._children}):
            members = [child for child in self._children if child.spec.stop_phase == phase]
            await asyncio.gather(*(_end(child, tasks[child.spec.name]) for child in members))
            if phase == TRAINERS_PHASE:
                self._stopped_attempts = await _stop_trainers(self._layout)
        self._state = Overall.STOPPED
        self._publish()
        _log.info("stopped")

    def _publish(self) -> None:
        records = self._records()
        essential = [record for record in records if record.essential]
        if all(record.state in _SETTLED for record in essential):
            self._was_ready = True
        if self._state not in (Overall.STOPPING, Overall.STOPPED):
            self._state = judge(records, self._was_ready)
        state = PlatformState(
            supervisor=self._identity,
            state=self._state,
            started_at=self._began_at,
            ready=self._was_ready,
            notes=self._platform.notes,
            processes=records,
            stopped_attempts=self._stopped_attempts,
        )
        try:
            write_state(self._layout, state)
        except OSError as error:
            _log.error("state can't be written", reason=str(error))


def judge(records: tuple[ProcessRecord, ...], was_ready: bool) -> Overall:
    """Say how the platform is, given its processes and whether it was ever ready."""
    essential = [record for record in records if record.essential]
    others = [record for record in records if not record.essential]
    if not was_ready:
        return Overall.STARTING
    if any(record.state not in _SETTLED for record in essential):
        return Overall.DEGRADED
    # One that is still at its first start (MLflow takes its time) is as it should be.
    broken = [
        each for each in others if each.state in _BROKEN or (each.restarts and each.state not in _SETTLED)
    ]
    return Overall.DEGRADED if broken else Overall.RUNNING


def read_grace(layout: HomeLayout) -> float:
    """Return how long trainers may take to save, as `steelyard down` asked, or the default."""
    try:
        return float(json.loads((layout.run / "stop.json").read_bytes())["grace_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_GRACE_SECONDS


async def _supervise(layout: HomeLayout, settings: Settings, compose: Composer) -> int:
    identity = identify(os.getpid())
    assert identity is not None
    _log.info("begins", home=str(layout.root), pid=os.getpid())
    try:
        left = await stop_survivors(layout, read_state(layout))
        if left:
            _log.warning("stopped what a dead supervisor had left", processes=left)
        make_secrets(layout)
        platform = compose(layout, settings)
    except SteelyardError as error:
        _log.error("can't begin", code=error.code, reason=error.message)
        _write_failure(layout, identity, error)
        return 1
    addresses = platform.addresses
    write_atomically(layout.platform_file, addresses.model_dump_json(indent=2).encode(), 0o644)
    endpoint = addresses.model_dump_json(include={"api_url", "tls"}, exclude_none=True)
    write_atomically(endpoint_file(layout.root), endpoint.encode(), 0o644)
    await Supervisor(layout, platform, identity).run()
    return 0


def _write_failure(layout: HomeLayout, identity: ProcessIdentity, error: SteelyardError) -> None:
    state = PlatformState(
        supervisor=identity,
        state=Overall.FAILED,
        started_at=time.time(),
        error=error.message,
        error_code=error.code,
    )
    with contextlib.suppress(OSError):
        write_state(layout, state)


def _marked(spec: ProcessSpec, layout: HomeLayout) -> ProcessSpec:
    name, _, value = mark_of(layout, spec.name).partition("=")
    return replace(spec, environment={**spec.environment, name: value})


async def _first_failure(tasks: dict[str, asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks.values(), return_when="FIRST_EXCEPTION")
    for name, task in tasks.items():
        if task.done() and not task.cancelled() and (error := task.exception()):
            _log.error("supervision broke", process=name, error=repr(error))
            return
    await asyncio.Event().wait()


async def _end(child: Child, task: asyncio.Task[None]) -> None:
    await child.stop()
    task.cancel()
    await asyncio.wait([task])


async def _stop_trainers(layout: HomeLayout) -> tuple[str, ...]:
    asked = await asyncio.to_thread(stop_all, layout.attempts, read_grace(layout))
    if asked:
        _log.info("trainers were asked to save and have left", attempts=asked)
        await asyncio.to_thread(bring_last_checkpoints, layout, asked)
    return tuple(asked)


if __name__ == "__main__":
    raise SystemExit(main())
