"""One supervised process: waits for its turn, starts, proves ready, comes back when it ends."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from steelyard.kit.errors import SteelyardError
from steelyard.server.embedded.identity import ProcessIdentity, identify
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.embedded.spawning import reap, spawn, wait_for_end
from steelyard.server.embedded.state import ProcessRecord, ProcessState

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_STEADY_SECONDS = 30.0
_PROBE_PAUSE_SECONDS = 0.05
_SETTLE_PAUSE_SECONDS = 0.5
_PROBE_TIMEOUT_SECONDS = 5.0
_WATCH_PAUSE_SECONDS = 5.0
_MISSES_ALLOWED = 3
_log = structlog.get_logger()


class Child:
    """Keeps one process alive. Belongs to one event loop; `run` is its only task.

    Args:
        on_change: called after every change that `record` shows.
        ready: events of all processes by name, set at the first readiness of each.
    """

    def __init__(
        self, spec: ProcessSpec, log: Path, ready: dict[str, asyncio.Event], on_change: Callable[[], None]
    ) -> None:
        self.spec = spec
        self._log_path = log
        self._ready = ready
        self._on_change = on_change
        self._state = ProcessState.DISABLED if spec.disabled else ProcessState.WAITING
        self._identity: ProcessIdentity | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._stopping = False
        self._starts = 0
        self._failures = 0
        self._started_at: float | None = None
        self._message: str | None = spec.disabled

    def record(self) -> ProcessRecord:
        """Return what is known of it now."""
        return ProcessRecord(
            name=self.spec.name,
            state=self._state,
            identity=self._identity,
            restarts=max(0, self._starts - 1),
            failures=self._failures,
            started_at=self._started_at,
            essential=self.spec.essential,
            message=self._message,
            stop_signal=int(self.spec.stop_signal),
            stop_phase=self.spec.stop_phase,
            log=str(self._log_path),
        )

    async def run(self) -> None:
        """Start it in its turn and again whenever it ends, until `stop` or, if it runs once, success."""
        if self.spec.disabled:
            self._ready[self.spec.name].set()
            return
        await self._wait_for_turn()
        while not self._stopping:
            code = await self._live()
            if self._stopping:
                break
            if self.spec.once and code == 0:
                self._show(ProcessState.DONE, None)
                self._ready[self.spec.name].set()
                return
            await self._pause()
        self._show(ProcessState.STOPPED, None)

    async def stop(self) -> None:
        """End it, with its grace, and don't start it again. Returns when it has gone."""
        self._stopping = True
        if self._process is None:
            if self._state not in (ProcessState.DISABLED, ProcessState.DONE):
                self._show(ProcessState.STOPPED, None)
            return
        self._show(ProcessState.STOPPING, None)
        self._signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_grace_seconds):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("process ignored its stop signal", process=self.spec.name)
            self._kill()
            await self._ended.wait()

    async def _wait_for_turn(self) -> None:
        for name in self.spec.depends_on:
            await self._ready[name].wait()
        if self.spec.yields_to:
            others = [self._ready[name].wait() for name in self.spec.yields_to if name in self._ready]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.spec.yield_seconds):
                    await asyncio.gather(*others)

    async def _live(self) -> int | None:
        """Go through one life. Returns the exit code; None if it could not be started."""
        began = time.monotonic()
        process = await self._start()
        if process is None:
            return None
        end = asyncio.create_task(wait_for_end(process.pid))
        care = asyncio.create_task(self._accompany())
        care.add_done_callback(self._check_care)
        try:
            await end
        finally:
            care.cancel()
            await asyncio.wait([care])
            code = self._collect(process, end)
        if time.monotonic() - began >= _STEADY_SECONDS:
            self._failures = 0
        if not (self.spec.once and code == 0) and not self._stopping:
            self._fail(_describe_end(code))
        return code

    async def _start(self) -> subprocess.Popen[bytes] | None:
        self._show(ProcessState.STARTING, self._message)
        try:
            if self.spec.prepare:
                await asyncio.to_thread(self.spec.prepare)
            if self._stopping:
                return None
            process = spawn(self.spec, self._log_path)
        except SteelyardError as error:
            return self._fail(error.message)
        except (OSError, subprocess.SubprocessError) as error:
            return self._fail(f"can't be started: {error}")
        self._process = process
        self._ended.clear()
        self._identity = identify(process.pid)
        self._starts += 1
        self._started_at = time.time()
        self._show(ProcessState.STARTING, None)
        return process

    async def _accompany(self) -> None:
        try:
            async with asyncio.timeout(self.spec.start_timeout_seconds):
                await self._become_ready()
        except TimeoutError:
            self._message = f"did not become ready within {self.spec.start_timeout_seconds:.0f} s"
            self._kill()
            return
        await self._watch()

    async def _become_ready(self) -> None:
        await _repeat(self._probe, _PROBE_PAUSE_SECONDS)
        await _repeat(self._settle, _SETTLE_PAUSE_SECONDS)
        if self.spec.once or self._stopping:
            return
        self._show(ProcessState.RUNNING, None)
        self._ready[self.spec.name].set()

    async def _settle(self) -> bool:
        try:
            if self.spec.on_ready:
                await self.spec.on_ready()
        except (SteelyardError, OSError) as error:
            _log.warning("process isn't usable yet", process=self.spec.name, error=str(error))
            return False
        return True

    async def _watch(self) -> None:
        misses = 0
        while self.spec.probe and not self.spec.once:
            await asyncio.sleep(_WATCH_PAUSE_SECONDS)
            misses = 0 if await self._probe() else misses + 1
            if misses == _MISSES_ALLOWED:
                self._show(ProcessState.UNRESPONSIVE, "lives, but doesn't answer its probe")
            elif misses == 0 and self._state is ProcessState.UNRESPONSIVE:
                self._show(ProcessState.RUNNING, None)

    async def _probe(self) -> bool:
        if self.spec.probe is None:
            return True
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
                return await self.spec.probe()
        except TimeoutError:
            return False

    async def _pause(self) -> None:
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** max(0, self._failures - 1))
        self._show(ProcessState.RESTARTING, self._message)
        await asyncio.sleep(pause)

    def _check_care(self, care: asyncio.Task[None]) -> None:
        if not care.cancelled() and (error := care.exception()):
            _log.error("a probe broke", process=self.spec.name, error=repr(error))
            self._kill()

    def _collect(self, process: subprocess.Popen[bytes], end: asyncio.Task[None]) -> int:
        if not end.done():
            self._kill()
        code = reap(process)
        self._process = None
        self._identity = None
        self._ended.set()
        return code

    def _fail(self, message: str) -> None:
        self._failures += 1
        self._message = message
        _log.warning("process ended", process=self.spec.name, reason=message, failures=self._failures)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _show(self, state: ProcessState, message: str | None) -> None:
        if state is not self._state:
            _log.info("process", process=self.spec.name, state=state.value, pid=self._pid())
        self._state = state
        self._message = message
        self._on_change()

    def _pid(self) -> int | None:
        return self._identity.pid if self._identity else None


async def _repeat(attempt: Callable[[], Awaitable[bool]], pause_seconds: float) -> None:
    while True:
        if await attempt():
            return
        await asyncio.sleep(pause_seconds)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
