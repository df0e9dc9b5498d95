"""What the workers' own database role sees and writes, and what SQL that runs as it can't do."""

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from tests.databases import worker_dsn

from steelyard.storage.database import Database
from steelyard.storage.tables import Base
from steelyard.storage.walls import can_pass_wall

APPEND_ONLY = {
    "approvals", "audit_leaves", "audit_log", "audit_seals", "evaluations", "ledger_postings",
    "ledger_transactions", "lineage_statements", "model_transitions",
}  # fmt: skip
READ_ALONE = {
    "api_tokens", "approval_policies", "approvals", "budgets", "flavors", "freeze_windows", "group_mappings",
    "organization_members", "organizations", "pool_settings", "principal_groups", "principals",
    "project_members", "project_shares", "projects", "promotion_gates", "queue_entries", "quotas", "secrets",
    "webhooks",
}  # fmt: skip
"""What says who may do what, what may be spent, and what was approved; and what triggers alone write."""
TABLES = sorted(Base.metadata.tables)
_MAY = "SELECT has_table_privilege('steelyard_worker', :table, :right)"


@pytest.fixture(params=["login", "role"])
async def worker(database_dsn: str, request: pytest.FixtureRequest) -> AsyncGenerator[Database]:
    """The database as workers see it, by a login of their own or in a role that the owner takes on."""
    own = request.param == "login"
    database = Database(worker_dsn(database_dsn)) if own else Database(database_dsn, takes_on="worker")
    yield database
    await database.close()


def test_it_writes_what_workers_write_and_no_more(superuser: Engine) -> None:
    with superuser.connect() as connection:

        def may(table: str, right: str) -> bool:
            return bool(connection.scalar(text(_MAY), {"table": table, "right": right}))

        assert [table for table in TABLES if not may(table, "SELECT")] == []
        # A node brings its flavor along, without a price.
        assert {table for table in TABLES if not may(table, "INSERT")} == READ_ALONE - {"flavors"}
        assert {table for table in TABLES if not may(table, "UPDATE")} == READ_ALONE | APPEND_ONLY
        assert {table for table in TABLES if not may(table, "DELETE")} == READ_ALONE | APPEND_ONLY
        assert [table for table in TABLES if may(table, "TRUNCATE") or may(table, "TRIGGER")] == []


def test_nobody_but_the_owner_has_rights_on_what_is_written_for_ever(superuser: Engine) -> None:
    query = "SELECT has_table_privilege('steelyard_api', :table, :right)"
    with superuser.connect() as connection:
        for table in APPEND_ONLY:
            for right in ("UPDATE", "DELETE", "TRUNCATE"):
                assert connection.scalar(text(query), {"table": table, "right": right}) is False, table


async def test_it_sees_all_projects_on_every_walled_table(worker: Database, database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO projects (id) VALUES ('alpha'), ('beta')"))
        await session.execute(
            text("INSERT INTO datasets (project_id, name, latest_version) VALUES ('alpha', 'x', 1)")
        )
    async with worker.transaction() as session:
        seen = set(await session.scalars(text("SELECT id FROM projects")))
        assert seen == {"default", "alpha", "beta"}
        changed = await session.scalars(text("UPDATE datasets SET latest_version = 2 RETURNING project_id"))
        assert list(changed) == ["alpha"]
        walled = set(await session.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity")))
        let = set(
            await session.scalars(text("SELECT tablename FROM pg_policies WHERE policyname = 'of_workers'"))
        )
        assert walled == let


async def test_a_table_that_comes_later_is_theirs_too(worker: Database, database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE later (project_id TEXT, what TEXT)"))
        await session.execute(text("SELECT wall_off('later')"))
    async with worker.transaction() as session:
        await session.execute(text("INSERT INTO later VALUES ('default', 'x')"))
        assert await session.scalar(text("SELECT what FROM later")) == "x"


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE steelyard",
        "SET SESSION AUTHORIZATION steelyard",
        "SET ROLE steelyard_api",
        "GRANT steelyard TO steelyard_worker",
        "ALTER ROLE steelyard PASSWORD 'known'",
        "ALTER ROLE steelyard_api PASSWORD 'known'",
        "CREATE ROLE another SUPERUSER",
        "SET session_replication_role = replica",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "ALTER TABLE audit_log ENABLE REPLICA TRIGGER audit_log_append_only",
        "DROP TRIGGER audit_log_append_only ON audit_log",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "DROP FUNCTION refuse_change() CASCADE",
        "ALTER TABLE projects DISABLE ROW LEVEL SECURITY",
        "DROP POLICY of_project ON projects",
        "ALTER TABLE jobs ADD COLUMN mine TEXT",
        "DROP TABLE audit_seals",
        "CREATE TABLE mine (id TEXT)",
        "CREATE SCHEMA mine",
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_leaves SET leaf = ''",
        "DELETE FROM audit_seals",
        "UPDATE ledger_postings SET money = 0",
        "DELETE FROM ledger_transactions",
        "UPDATE model_transitions SET actor = 'nobody'",
        "DELETE FROM lineage_statements",
        "INSERT INTO organization_members VALUES ('default', 'admin', 'owner', 'x')",
        "UPDATE api_tokens SET revoked_at = NULL",
        "INSERT INTO approvals (id) VALUES ('x')",
        "UPDATE budgets SET gpu_hours = 1000000",
        "UPDATE secrets SET sealed = ''",
        "DELETE FROM secrets",
        "TABLE alembic_version",
        "SELECT grant_application('steelyard_worker')",
        "SELECT wall_off('outbox')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY projects TO PROGRAM 'cat'",
    ],
)
async def test_sql_run_as_a_worker_changes_nothing_that_is_not_its_own(
    database_dsn: str, statement: str
) -> None:
    worker = Database(worker_dsn(database_dsn))

    async def run() -> None:
        async with worker.transaction() as session:
            await session.execute(text(statement))

    with pytest.raises(DBAPIError, match=r"permission denied|must be owner|not allowed|may"):
        await run()
    await worker.close()


async def test_a_worker_that_logs_in_as_the_owner_is_told_apart(workers: Database, database_dsn: str) -> None:
    fallback = Database(database_dsn, takes_on="worker")
    for login, passes in ((workers, False), (fallback, True)):
        async with login.transaction() as session:
            assert await session.scalar(text("SELECT current_user")) == "steelyard_worker"
            assert await can_pass_wall(session) is passes
    await fallback.close()
