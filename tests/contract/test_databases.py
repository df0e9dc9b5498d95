"""The database that tests get is fresh, migrated, and the platform's own to write."""

from sqlalchemy import Engine, text

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
