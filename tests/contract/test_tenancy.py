"""The second wall: what the api's own database role sees, table by table, with and without a project."""

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from tests.databases import api_dsn

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.kit.errors import NotFound
from steelyard.specs.access import Permission
from steelyard.storage.database import Database
from steelyard.storage.scopes import attempt_scope, pool_view
from steelyard.storage.tables import Base
from steelyard.storage.walls import can_pass_wall

ADMIN = Actor("user", "admin")
WALLED = {
    table.name: "id" if table.name == "projects" else "project_id"
    for table in Base.metadata.sorted_tables
    if table.name == "projects" or "project_id" in table.columns
}
"""Every table that is a tenant's, and its column that says whose a row is."""


@pytest.fixture(params=["login", "role"])
async def walled(
    database: Database, database_dsn: str, request: pytest.FixtureRequest
) -> AsyncGenerator[Database]:
    """The database as the api sees it, by a login of its own or in a role that the owner takes on.

    In it are a project `alpha` of `acme`, and `beta` of `umbrella`.
    """
    async with database.transaction() as session:
        for organization, project in (("acme", "alpha"), ("umbrella", "beta")):
            values = {"organization": organization, "project": project}
            await session.execute(
                text(
                    "INSERT INTO organizations (id, display_name, created_by) VALUES (:organization, '', '')"
                ),
                values,
            )
            await session.execute(
                text("INSERT INTO projects (id, organization_id) VALUES (:project, :organization)"), values
            )
        nobody = (
            "INSERT INTO principals (id, kind, display_name, created_by) VALUES ('nobody', 'user', '', '')"
        )
        await session.execute(text(nobody))
    seen = (
        Database(api_dsn(database_dsn))
        if request.param == "login"
        else Database(database_dsn, takes_on="api")
    )
    yield seen
    await seen.close()


async def test_a_query_that_forgets_its_project_returns_nothing(
    walled: Database, database: Database, superuser: Engine
) -> None:
    with superuser.connect() as connection:
        for name in WALLED:
            _fill(connection, name)
    queries = {name: f"SELECT DISTINCT {column} FROM {name} ORDER BY 1" for name, column in WALLED.items()}
    async with walled.transaction() as session:
        assert await _seen(session, queries) == {key: [] for key in WALLED}
        await access.authorize(session, ADMIN, "alpha", Permission.JOB_READ)
        assert await _seen(session, queries) == {key: ["alpha"] for key in WALLED}
    async with walled.transaction() as session:
        await access.authorize_organization(session, ADMIN, "umbrella", Permission.COST_READ)
        assert await _seen(session, queries) == {key: ["beta"] for key in WALLED}
    for scope in (walled, database):
        async with scope.transaction() as session:
            await access.authorize_installation(session, ADMIN, Permission.POOL_READ)
            for name, seen in (await _seen(session, queries)).items():
                assert {"alpha", "beta"} <= set(seen), name


async def test_rows_of_another_project_are_neither_written_nor_changed(walled: Database) -> None:
    async def insert() -> None:
        async with walled.transaction() as session:
            await access.authorize(session, ADMIN, "alpha", Permission.JOB_READ)
            await session.execute(
                text("INSERT INTO datasets (project_id, name, latest_version) VALUES ('beta', 'x', 1)")
            )

    with pytest.raises(DBAPIError, match="row-level security"):
        await insert()
    async with walled.transaction() as session:
        await access.authorize(session, ADMIN, "alpha", Permission.JOB_READ)
        changed = await session.scalars(text("UPDATE projects SET display_name = 'mine' RETURNING id"))
        assert list(changed) == ["alpha"]


async def test_a_scope_ends_with_its_transaction(walled: Database) -> None:
    async with walled.transaction() as session:
        await access.authorize(session, ADMIN, "alpha", Permission.JOB_READ)
    async with walled.transaction() as session:
        assert await _projects(session) == []
        async with pool_view(session):
            assert {"alpha", "beta"} <= set(await _projects(session))
        assert await _projects(session) == []


async def test_who_has_no_part_opens_nothing(walled: Database) -> None:
    async with walled.transaction() as session:
        with pytest.raises(NotFound):
            await access.authorize(session, Actor("user", "nobody"), "alpha", Permission.JOB_READ)
        with pytest.raises(NotFound):
            await access.authorize_organization(
                session, Actor("user", "nobody"), "acme", Permission.ORGANIZATION_READ
            )
        assert await _projects(session) == []
    with attempt_scope("att_that_never_was"):
        async with walled.transaction() as session:
            assert await _projects(session) == []


async def test_the_api_owns_nothing_and_keeps_to_its_role(walled: Database) -> None:
    async with walled.transaction() as session:
        role = await session.scalar(text("SELECT current_user"))
        await session.execute(text("RESET ROLE"))
        assert role == await session.scalar(text("SELECT current_user")) == "steelyard_api"
        owned = await session.scalar(text("SELECT count(*) FROM pg_tables WHERE tableowner = current_user"))
        assert owned == 0
    for statement in ("SELECT payload FROM outbox", "DELETE FROM audit_log", "TABLE alembic_version"):
        with pytest.raises(DBAPIError, match="permission denied"):
            await _run(walled, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "RESET ROLE",
        "SET ROLE NONE",
        "RESET SESSION AUTHORIZATION",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET ALL",
        "DISCARD ALL",
    ],
)
async def test_sql_run_as_the_api_goes_back_to_nobody(database_dsn: str, statement: str) -> None:
    url = make_url(api_dsn(database_dsn)).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
        who = connection.execute(text("SELECT session_user, current_user")).one()
        assert tuple(who) == ("steelyard_api", "steelyard_api")
        assert connection.scalar(text("SELECT count(*) FROM projects")) == 0
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE steelyard",
        "SET SESSION AUTHORIZATION steelyard",
        "SET ROLE postgres",
        "SET LOCAL role = 'steelyard'",
        "GRANT steelyard TO steelyard_api",
        "ALTER ROLE steelyard PASSWORD 'known'",
        "ALTER ROLE steelyard_api BYPASSRLS",
        "CREATE ROLE another SUPERUSER",
        "SET session_replication_role = replica",
        "ALTER TABLE projects DISABLE ROW LEVEL SECURITY",
        "DROP POLICY of_project ON projects",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "TRUNCATE audit_log",
        "CREATE TABLE mine (id TEXT)",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY projects TO PROGRAM 'cat'",
        "SELECT grant_application('steelyard_api')",
    ],
)
async def test_sql_run_as_the_api_becomes_nobody_else(database_dsn: str, statement: str) -> None:
    api = Database(api_dsn(database_dsn))
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner|not allowed|may"):
        await _run(api, statement)
    await api.close()


async def test_a_login_that_could_be_the_owner_is_told_apart(database: Database, database_dsn: str) -> None:
    api = Database(api_dsn(database_dsn))
    fallback = Database(database_dsn, takes_on="api")
    for login, passes in ((api, False), (fallback, True), (database, True)):
        async with login.transaction() as session:
            assert await can_pass_wall(session) is passes
    await api.close()
    await fallback.close()


async def _run(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement))


async def _projects(session: AsyncSession) -> list[str]:
    return list(await session.scalars(text("SELECT id FROM projects")))


async def _seen(session: AsyncSession, queries: dict[str, str]) -> dict[str, list[str]]:
    return {name: list(await session.scalars(text(query))) for name, query in queries.items()}


def _fill(connection: Connection, table: str) -> None:
    """Put a row of each project into a table, whatever else it is: no constraint or trigger is heeded."""
    if table == "projects":
        return
    connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
    for constraint in connection.execute(text(_CHECKS), {"name": table}).scalars():
        connection.execute(text(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"'))
    columns = {row[0]: row[1] for row in connection.execute(text(_REQUIRED), {"name": table})}
    names = ["project_id", *(name for name in columns if name != "project_id")]
    for project in ("alpha", "beta"):
        values = [f"'{project}'", *(_MADE_UP[columns[name]] for name in names[1:])]
        connection.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})"))


_CHECKS = "SELECT conname FROM pg_constraint WHERE conrelid = CAST(:name AS regclass) AND contype = 'c'"
_REQUIRED = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_name = :name AND table_schema = 'public' AND is_nullable = 'NO' AND column_default IS NULL
      AND is_identity = 'NO' AND is_generated = 'NEVER'
"""
_MADE_UP = {
    "text": "gen_random_uuid()::text", "bigint": "1", "integer": "1", "jsonb": "'{}'", "boolean": "false",
    "double precision": "0", "numeric": "0", "bytea": "'\\x00'", "date": "'2026-01-01'", "ARRAY": "'{}'",
    "timestamp with time zone": "now()",
}  # fmt: skip
