"""TLS with certificates of `steelyard certs dev`: to the api, and to a database behind a TLS terminator."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import make_url, text
from tests.control_plane import ADMIN_TOKEN, serve

from steelyard.api.app import create_app
from steelyard.client import AsyncClient
from steelyard.client.errors import ConnectionFailed, CredentialsUnreadable
from steelyard.client.retries import RetryPolicy
from steelyard.kit.errors import Conflict, InvalidRequest, SteelyardError, Unavailable
from steelyard.kit.home import admin_token_file, endpoint_file
from steelyard.kit.tls import TlsClient
from steelyard.runtime.link import ApiLink
from steelyard.server import api as api_process
from steelyard.server import certs
from steelyard.server.certificates import Certificates, make_development_certificates
from steelyard.specs.reports import AttemptReport
from steelyard.storage.database import Database

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_ONCE = RetryPolicy(max_retries=0)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    make_development_certificates(tmp_path / "certs", [])
    return Certificates(tmp_path / "certs")


@pytest.fixture
def strangers(tmp_path: Path) -> Certificates:
    make_development_certificates(tmp_path / "strangers", [])
    return Certificates(tmp_path / "strangers")


@pytest.fixture
async def api_url(
    database: Database, database_dsn: str, tmp_path: Path, certificates: Certificates
) -> AsyncGenerator[str]:
    """An api that refuses clients without a certificate, with the settings of the real process."""
    async with serve(database, database_dsn, tmp_path) as plane:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            app = create_app(plane.services, "0")
            tls = api_process.tls_arguments(certificates, mutual=True)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, **tls))
            task = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"https://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True
            await task


def write_home(folder: Path, api_url: str, tls: TlsClient) -> Path:
    folder.mkdir()
    endpoint_file(folder).write_text(json.dumps({"api_url": api_url, "tls": tls.model_dump(mode="json")}))
    admin_token_file(folder).parent.mkdir()
    admin_token_file(folder).write_text(ADMIN_TOKEN)
    return folder


async def test_the_client_finds_its_certificates_in_the_home(
    api_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    home = write_home(tmp_path / "home", api_url, certificates.as_client(shows_certificate=True))
    async with AsyncClient(home=home, retry=_ONCE) as client:
        assert (await client.jobs.list()).data == []


async def test_without_a_certificate_nobody_gets_in(
    api_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    home = write_home(tmp_path / "home", api_url, certificates.as_client(shows_certificate=False))
    async with AsyncClient(home=home, retry=_ONCE) as client:
        with pytest.raises(ConnectionFailed):
            await client.jobs.list()


async def test_a_strangers_server_is_not_trusted(
    api_url: str, strangers: Certificates, tmp_path: Path
) -> None:
    home = write_home(tmp_path / "home", api_url, strangers.as_client(shows_certificate=True))
    async with AsyncClient(home=home, retry=_ONCE) as client:
        with pytest.raises(ConnectionFailed):
            await client.jobs.list()


async def test_missing_files_are_named(api_url: str, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", api_url, TlsClient(ca_file=tmp_path / "nowhere.crt"))
    with pytest.raises(CredentialsUnreadable, match="STEELYARD_CA_FILE"):
        AsyncClient(home=home)


async def test_a_trainer_reports_over_mutual_tls(
    api_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    report = AttemptReport(epoch=1, phase="training", step=1, total_steps=2)
    (tmp_path / "token").write_text("sya_forged.token")
    for tls, told in (
        (certificates.as_client(shows_certificate=True), "not known"),
        (None, "does not answer"),
    ):
        link = ApiLink(api_url, "att_1", tmp_path / "token", tls)
        with pytest.raises(Unavailable, match=told):
            await asyncio.to_thread(link.post, "report", report)
        link.close()


def test_certificates_are_never_overwritten(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = certificates.key("server").read_bytes()
    with pytest.raises(Conflict):
        make_development_certificates(certificates.folder, [])
    monkeypatch.setenv("STEELYARD_TLS_FOLDER", str(certificates.folder))
    assert certs.main(["dev", "--json"]) == certs.EXIT_REFUSED
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "conflict"
    assert certificates.key("server").read_bytes() == before
    assert certificates.key("server").stat().st_mode & 0o777 == 0o600


@contextlib.asynccontextmanager
async def terminator(sockets: Path, certificates: Certificates) -> AsyncGenerator[int]:
    """Speak PostgreSQL's TLS on a port, and plainly to the server behind, whose binary has no TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.authority)
    context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == _SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
            inner_reader, inner_writer = await asyncio.open_unix_connection(sockets / ".s.PGSQL.5432")
            await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("authority", "mode", "reaches"),
    [("certs", "verify-full", True), ("certs", "require", True), ("strangers", "verify-full", False)],
)
async def test_the_database_is_checked_as_the_dsn_says(
    database_dsn: str, tmp_path: Path, certificates: Certificates, strangers: Certificates,
    authority: str, mode: str, reaches: bool,
) -> None:  # fmt: skip
    url = make_url(database_dsn)
    async with terminator(Path(str(url.query["host"])), certificates) as port:
        query = {
            "sslmode": mode,
            "sslrootcert": str(tmp_path / authority / "ca.crt"),
            "sslcert": str(certificates.certificate("client")),
            "sslkey": str(certificates.key("client")),
        }
        over_tls = url.set(host="127.0.0.1", port=port, query=query)
        database = Database(over_tls, pool_size=1)
        if reaches:
            async with database.transaction() as session:
                assert await session.scalar(text("SELECT 1")) == 1
        else:
            with pytest.raises(SteelyardError):
                async with database.transaction() as session:
                    await session.scalar(text("SELECT 1"))
        await database.close()


def test_a_dsn_with_an_unknown_mode_is_refused(database_dsn: str) -> None:
    with pytest.raises(InvalidRequest, match="sslmode"):
        Database(make_url(database_dsn).update_query_dict({"sslmode": "sometimes"}))
