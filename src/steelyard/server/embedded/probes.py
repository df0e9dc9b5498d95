"""Readiness probes: small, without libraries, safe to repeat."""

import asyncio
import contextlib
import struct
from pathlib import Path

from steelyard.kit.tls import TlsClient, client_context
from steelyard.server.embedded.process import Probe

_PROTOCOL_VERSION = 3 << 16
SOCKET_NAME = ".s.PGSQL.5432"


def http_probe(
    path: str, *, port: int | None = None, socket: Path | None = None, tls: TlsClient | None = None
) -> Probe:
    """Return a probe that is content with status 200 for GET `path`, on a local port or a unix socket."""

    async def probe() -> bool:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            return await _get_status(path, port, socket, tls) == 200
        return False

    return probe


def postgres_probe(sockets: Path, role: str) -> Probe:
    """Return a probe that is content when PostgreSQL asks for a password.

    A server that recovers answers a start-up message with an error instead (protocol 3.0, message
    `StartupMessage`; answer `R` is an authentication request, `E` an error).
    """

    async def probe() -> bool:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            return await _first_answer(sockets / SOCKET_NAME, role) == b"R"
        return False

    return probe


def socket_probe(path: Path) -> Probe:
    """Return a probe that is content when something accepts connections on a unix socket."""

    async def probe() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(path)
            await _close(writer)
            return True
        return False

    return probe


async def _get_status(path: str, port: int | None, socket: Path | None, tls: TlsClient | None) -> int:
    if socket is not None:
        reader, writer = await asyncio.open_unix_connection(socket)
    else:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(tls) if tls else None
        )
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        fields = (await reader.readline()).split()
        return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
    finally:
        await _close(writer)


async def _first_answer(path: Path, role: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        body = struct.pack("!i", _PROTOCOL_VERSION)
        body += b"user\0" + role.encode() + b"\0database\0postgres\0\0"
        writer.write(struct.pack("!i", len(body) + 4) + body)
        await writer.drain()
        return await reader.readexactly(1)
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
