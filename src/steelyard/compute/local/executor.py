"""`LocalExecutor`: attempts as processes of this machine."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from steelyard.compute.executor import Executor, LaunchSpec, LogChunk, Observation, Phase, StopMode
from steelyard.compute.local import files
from steelyard.compute.local.launcher import Launcher
from steelyard.compute.local.log import read_pieces
from steelyard.compute.local.node import node_name
from steelyard.compute.local.observer import observe, request_stop
from steelyard.compute.local.processes import open_pidfd
from steelyard.kit.errors import NotSupported

MEMORY_FACTOR = 1.5
_POLL_SECONDS = 0.05
_ENDED = (Phase.ENDED, Phase.LOST)


class LocalExecutor(Executor):
    """Runs each attempt under its own shim, which outlives the caller.

    Args:
        forkserver: socket of a `steelyard.compute.local.forkserver`; it makes CPU attempts start in
            milliseconds. None, or nobody answers there: fresh processes.
        python: the interpreter of shims and trainers.
        memory_factor: an attempt that uses more than this many times its memory is killed. None: never.
    """

    name = "local"

    def __init__(
        self,
        forkserver: Path | None = None,
        python: str = sys.executable,
        memory_factor: float | None = MEMORY_FACTOR,
    ) -> None:
        self._launcher = Launcher(forkserver, python, memory_factor)
        self._node = node_name()

    async def launch(self, spec: LaunchSpec) -> None:
        """See `Executor.launch`. One machine is one node.

        Raises:
            NotSupported: the spec wants several nodes.
        """
        if spec.nodes > 1:
            raise NotSupported(
                "the local executor has one node; set distributed.num_nodes to 1 or use another executor",
                param="distributed.num_nodes",
            )
        await asyncio.to_thread(self._launcher.launch, spec)

    async def observe(self, attempt_id: str, attempt_dir: Path) -> Observation:
        """See `Executor.observe`. Where a shim was killed, what it left running is killed on the way."""
        return await asyncio.to_thread(observe, attempt_id, attempt_dir, self._node)

    async def wait(self, attempt_id: str, attempt_dir: Path, timeout_seconds: float) -> Observation:
        """See `Executor.wait`. Sleeps on the shim's pidfd: one descriptor, no polling, while it lives."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            seen = await self.observe(attempt_id, attempt_dir)
            left = deadline - time.monotonic()
            if seen.phase in _ENDED or left <= 0:
                return seen
            await _sleep_until_shim_ends(attempt_dir, left)

    async def stop(
        self, attempt_id: str, attempt_dir: Path, mode: StopMode, grace_seconds: float, reason: str
    ) -> None:
        """See `Executor.stop`. It sticks: an attempt that was not launched yet ends before it begins."""
        await asyncio.to_thread(request_stop, attempt_id, attempt_dir, mode, grace_seconds, reason)

    async def read_log(
        self, attempt_dir: Path, offset: int, limit_bytes: int = 1 << 20
    ) -> AsyncIterator[LogChunk]:
        """See `Executor.read_log`. Old segments are rotated away: the first chunk may begin later."""
        folder = attempt_dir / files.LOG_FOLDER
        for start, data in await asyncio.to_thread(read_pieces, folder, offset, limit_bytes):
            yield LogChunk(start, data)

    async def follow_log(
        self, attempt_id: str, attempt_dir: Path, offset: int = 0, poll_seconds: float = 0.2
    ) -> AsyncIterator[LogChunk]:
        """Yield the log from `offset` on as it grows, until the attempt has ended and all is read."""
        while True:
            seen = await self.wait(attempt_id, attempt_dir, 0.0)
            fresh = False
            async for chunk in self.read_log(attempt_dir, offset):
                offset, fresh = chunk.offset + len(chunk.data), True
                yield chunk
            if fresh:
                continue
            if seen.phase in _ENDED:
                return
            await self.wait(attempt_id, attempt_dir, poll_seconds)


async def _sleep_until_shim_ends(folder: Path, timeout_seconds: float) -> None:
    """Sleep until the shim's end, or one polling interval where there is no live shim to wait for."""
    claim = files.read_claim(folder)
    descriptor = open_pidfd(claim) if claim else None
    if descriptor is None:
        await asyncio.sleep(min(_POLL_SECONDS, timeout_seconds))
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_seconds):
            await ended.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
