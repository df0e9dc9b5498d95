"""HTTP load with little cost of its own: keep-alive connections over plain streams, requests at a pace."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Connection:
    """One keep-alive connection, used by one task at a time."""

    host: str
    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False)

    async def send(self, call: Call) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        lines = [
            f"{call.method} {call.path} HTTP/1.1",
            f"Host: {self.host}",
            f"Content-Length: {len(call.body)}",
        ]
        lines += [f"{name}: {value}" for name, value in call.headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + call.body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        return status, await reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Pacer:
    """Sends requests at fixed moments, whether or not earlier ones were answered (an open loop).

    A latency runs from the moment at which the request was due, so a server that stalls is charged for all
    that waited behind it.
    """

    def __init__(self, host: str, port: int, per_second: float) -> None:
        self._address = (host, port)
        self._interval = 1.0 / per_second
        self._idle: list[Connection] = []

    async def run(self, make: Callable[[int], Call], seconds: float, expected: int) -> list[float]:
        """Send for `seconds`; return the latencies in milliseconds.

        Raises:
            RuntimeError: an answer had another status than `expected`.
        """
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[float]] = []
            for number in range(int(seconds / self._interval)):
                due = begin + number * self._interval
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(group.create_task(self._one(make(number), due, expected)))
        # A server closes connections that idle for long: the next block opens its own.
        self.close()
        return [task.result() for task in tasks]

    async def _one(self, call: Call, due: float, expected: int) -> float:
        connection = self._idle.pop() if self._idle else Connection(*self._address)
        status, body = await connection.send(call)
        latency = (time.perf_counter() - due) * 1000
        self._idle.append(connection)
        if status != expected:
            raise RuntimeError(f"{call.method} {call.path}: {status} {body[:300]!r}")
        return latency

    def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
