"""`python -m steelyard.server.migrate`: brings the database to the newest schema, then ends."""

import sys

from sqlalchemy.exc import OperationalError

from steelyard.server.home import database_dsn
from steelyard.server.settings import Settings
from steelyard.storage.migrations import migrate


def main() -> int:
    """Migrate; 1 where the database can't be reached."""
    settings = Settings()
    try:
        migrate(database_dsn(settings.home, settings.database_dsn))
    except OperationalError as error:
        sys.stderr.write(f"the database can't be reached: {error.orig}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
