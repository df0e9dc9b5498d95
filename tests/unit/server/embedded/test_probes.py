import asyncio
from pathlib import Path

from steelyard.server.embedded.probes import http_probe, postgres_probe, socket_probe


async def test_http_wants_200_on_port_or_socket(tmp_path: Path) -> None:
    answers = [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"", b"junk\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        probe = http_probe("/healthz", port=server.sockets[0].getsockname()[1])
        assert [await probe() for _ in range(4)] == [True, False, False, False]
    assert not await probe()
    answers.append(b"HTTP/1.1 200 OK\r\n\r\n")
    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        assert await http_probe("/healthz", socket=tmp_path / "s")()
    assert not await http_probe("/healthz", socket=tmp_path / "none")()


async def test_postgres_is_ready_when_it_asks_for_a_password(tmp_path: Path) -> None:
    answers = [b"R\0", b"E\0", b""]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        assert b"user\0me\0" in await reader.readexactly(length - 4)
        writer.write(answers.pop(0))
        writer.close()

    probe = postgres_probe(tmp_path, "me")
    assert not await probe()
    async with await asyncio.start_unix_server(serve, tmp_path / ".s.PGSQL.5432"):
        assert [await probe() for _ in range(3)] == [True, False, False]


async def test_a_socket_is_ready_when_somebody_accepts(tmp_path: Path) -> None:
    probe = socket_probe(tmp_path / "s")
    assert not await probe()
    async with await asyncio.start_unix_server(lambda _reader, writer: writer.close(), tmp_path / "s"):
        assert await probe()
