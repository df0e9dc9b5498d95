"""The database that tests get is fresh, migrated, and the platform's own to write."""

import stat

from sqlalchemy import Engine, text
from tests.databases import TestServer, api_dsn

from steelyard.server.embedded.postgres import make_databases
from steelyard.storage.database import Database
from steelyard.storage.migrations import migrate


async def test_each_test_may_write(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO projects (id) VALUES ('written')"))


async def test_no_test_sees_another(database: Database) -> None:
    async with database.transaction() as session:
        assert list(await session.scalars(text("SELECT id FROM projects"))) == ["default"]


def test_the_superuser_sees_the_same_database(superuser: Engine) -> None:
    with superuser.connect() as connection:
        assert connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
        assert connection.scalar(text("SELECT count(*) FROM projects")) == 1


def test_migrating_again_changes_nothing(database_dsn: str, superuser: Engine) -> None:
    migrate(database_dsn)

    with superuser.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM projects")) == 1


async def test_a_role_of_before_gets_its_login_at_the_next_start(
    postgres_server: TestServer, database_dsn: str, superuser: Engine
) -> None:
    """Migration 0011 made the api's role without one."""
    with superuser.connect() as connection:
        connection.execute(text("ALTER ROLE steelyard_api NOLOGIN PASSWORD NULL"))
    await make_databases(postgres_server.layout, postgres_server.sockets)
    api = Database(api_dsn(database_dsn))
    async with api.transaction() as session:
        assert await session.scalar(text("SELECT session_user")) == "steelyard_api"
    await api.close()
    password = postgres_server.layout.api_database_password
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    with superuser.connect() as connection:
        member = "SELECT pg_has_role('steelyard_api', rolname, 'MEMBER') FROM pg_roles WHERE rolname = :who"
        for who in ("steelyard", "postgres", "mlflow"):
            assert connection.scalar(text(member), {"who": who}) is False
