"""A real PostgreSQL for tests: one server a session, one fresh copy of a migrated database a test.

The server is the embedded platform's own, made and started by the same code. It syncs nothing to disk,
which only a power cut would tell from the real one.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.postgres import make_databases, postgres_spec
from steelyard.server.embedded.postgres_place import choose_place
from steelyard.server.embedded.probes import postgres_probe
from steelyard.server.embedded.spawning import reap, spawn
from steelyard.server.home import (
    API_ROLE,
    DATABASE_NAME,
    DATABASE_ROLE,
    WORKER_ROLE,
    HomeLayout,
    read_secret,
    socket_dsn,
)
from steelyard.storage.database import Database
from steelyard.storage.migrations import migrate

SUPERUSER = "postgres"
_START_SECONDS = 60.0
_FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_numbers = itertools.count(1)
_homes: dict[str, HomeLayout] = {}
"""Homes of this process's servers, by the folders of their sockets."""


@dataclass(frozen=True)
class TestServer:
    """A running server. `admin` is its superuser, outside of any transaction."""

    __test__ = False

    sockets: Path
    layout: HomeLayout
    admin: Engine

    def dsn(self, database: str) -> str:
        """Return the DSN of a database as its owner."""
        password = read_secret(self.layout.database_password)
        return socket_dsn(self.sockets, DATABASE_ROLE, database, password)

    def superuser_dsn(self, database: str) -> str:
        """Return the DSN of a database as PostgreSQL's superuser."""
        password = read_secret(self.layout.superuser_password)
        return socket_dsn(self.sockets, SUPERUSER, database, password)

    def copy(self, template: str = DATABASE_NAME) -> str:
        """Make a fresh copy of a database that nobody is connected to; return its name."""
        name = f"copy_{next(_numbers)}"
        with self.admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {DATABASE_ROLE}"))
        return name

    def drop(self, name: str) -> None:
        """Throw a copy away, with whoever is connected to it."""
        with self.admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """The session's server, with an empty migrated database of the name `steelyard`."""
    root = Path(tempfile.mkdtemp(prefix="steelyard-pg-"))
    # Root's server runs as another user, who must be able to pass through.
    root.chmod(0o711)
    try:
        with _running(HomeLayout(root)) as server:
            migrate(server.dsn(DATABASE_NAME))
            yield server
            server.admin.dispose()
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: TestServer) -> str:
    """An empty migrated database, to copy from. Leave no connection to it open: tests are made from it."""
    return postgres_server.dsn(DATABASE_NAME)


@pytest.fixture
def database_name(postgres_server: TestServer) -> Iterator[str]:
    """A fresh copy of the migrated database, of this test alone."""
    name = postgres_server.copy()
    yield name
    postgres_server.drop(name)


@pytest.fixture
def database_dsn(postgres_server: TestServer, database_name: str) -> str:
    """The test's own database, as its owner connects to it."""
    return postgres_server.dsn(database_name)


@pytest.fixture
def superuser(postgres_server: TestServer, database_name: str) -> Iterator[Engine]:
    """The test's own database as PostgreSQL's superuser; every statement commits at once."""
    engine = make_engine(postgres_server.superuser_dsn(database_name))
    yield engine
    engine.dispose()


@pytest.fixture
async def database(database_dsn: str) -> AsyncGenerator[Database]:
    """The test's own database, as services get it."""
    database = Database(database_dsn, name="test")
    yield database
    await database.close()


@pytest.fixture
async def workers(database_dsn: str) -> AsyncGenerator[Database]:
    """The test's own database, as workers log in to it."""
    database = Database(worker_dsn(database_dsn), name="test-worker")
    yield database
    await database.close()


def api_dsn(dsn: str) -> str:
    """Return the DSN of a test's database as the api logs in to it, from the owner's."""
    return _dsn_as(API_ROLE, dsn, lambda layout: layout.api_database_password)


def worker_dsn(dsn: str) -> str:
    """Return the DSN of a test's database as workers log in to it, from the owner's."""
    return _dsn_as(WORKER_ROLE, dsn, lambda layout: layout.worker_database_password)


def _dsn_as(role: str, dsn: str, password_file: Callable[[HomeLayout], Path]) -> str:
    url = make_url(dsn)
    sockets = str(url.query["host"])
    password = read_secret(password_file(_homes[sockets]))
    return socket_dsn(Path(sockets), role, url.database or "", password)


def make_engine(dsn: str) -> Engine:
    """Return a blocking engine whose every statement commits at once."""
    url = make_url(dsn).set(drivername="postgresql+psycopg2")
    return create_engine(url, isolation_level="AUTOCOMMIT")


@contextlib.contextmanager
def _running(layout: HomeLayout) -> Generator[TestServer]:
    prepare_home(layout)
    make_secrets(layout)
    place = choose_place(layout)
    _homes[str(place.sockets)] = layout
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    spec = postgres_spec(layout, place, environment)
    assert spec.prepare is not None
    spec.prepare()
    process = spawn(dataclasses.replace(spec, argv=(*spec.argv, *_FAST)), layout.log("postgres"))
    try:
        # The tests' own event loop must not notice this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _become_ready(layout, place.sockets)).result()
        dsn = socket_dsn(place.sockets, SUPERUSER, "postgres", read_secret(layout.superuser_password))
        yield TestServer(place.sockets, layout, make_engine(dsn))
    finally:
        # At once, because the data is thrown away.
        process.send_signal(signal.SIGQUIT)
        process.wait(spec.stop_grace_seconds)
        reap(process)


async def _become_ready(layout: HomeLayout, sockets: Path) -> None:
    probe = postgres_probe(sockets, SUPERUSER)
    deadline = time.monotonic() + _START_SECONDS
    while not await probe():
        assert time.monotonic() < deadline, layout.log("postgres").read_text()[-2000:]
        await asyncio.sleep(0.02)
    await make_databases(layout, sockets)
