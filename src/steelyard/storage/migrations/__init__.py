"""Alembic migrations, in the package, so that an installed wheel can upgrade its database."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text

_LOCK = 7_316_110


def migrate(dsn: str, revision: str = "head") -> None:
    """Bring the database to `revision`.

    Safe to call from many processes at once: one does it, the others wait.
    """
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    engine.dispose()
