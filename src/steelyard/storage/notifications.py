"""PostgreSQL's LISTEN: hints that something changed. A hint may be lost; every listener also polls."""

# asyncpg ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator

import asyncpg
import structlog

_RECONNECT_SECONDS = 1.0
_log = structlog.get_logger()


class Listener:
    """One connection that listens on some channels, and wakes those who wait.

    Waiters wait for any hint on a channel, or for those that carry one payload.
    """

    def __init__(self, dsn: str, channels: tuple[str, ...]) -> None:
        self._dsn = dsn
        self._channels = channels
        self._waiters: defaultdict[tuple[str, str | None], set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled, connecting again whenever the connection breaks."""
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.info("listener lost its connection", error=str(error))
            self._wake_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    @contextlib.asynccontextmanager
    async def subscription(self, channel: str, payload: str | None = None) -> AsyncGenerator[asyncio.Event]:
        """Yield an event that each hint on `channel` sets (with `payload`: only those that carry it)."""
        event, key = asyncio.Event(), (channel, payload)
        self._waiters[key].add(event)
        try:
            yield event
        finally:
            self._waiters[key].discard(event)
            if not self._waiters[key]:
                del self._waiters[key]

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5)
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _connection: closed.set())
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._on_hint)
            self._wake_all()
            await closed.wait()
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=1)

    def _on_hint(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        for key in ((channel, None), (channel, str(payload))):
            for event in self._waiters.get(key, ()):
                event.set()

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()


async def wait_for_hint(event: asyncio.Event, timeout_seconds: float) -> None:
    """Wait for the next hint, but no longer than `timeout_seconds`; then clear it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    event.clear()
