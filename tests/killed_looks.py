"""`python -m tests.killed_looks DSN FAMILY RUN STRIDE`: look at a family in children that die by SIGKILL.

The first dies before its first statement, the next `STRIDE` statements later, and so on: see `killed_steps`.
"""

import sys

import structlog
from tests.households import plain_step
from tests.killed_steps import MOST, fork_until_one_lives

from steelyard.jobs.families import FamilyService
from steelyard.storage.database import Database


def main(dsn: str, family: str, run: str, stride: str) -> None:
    """Fork children until one lives."""
    # What they log would stand among what is printed here.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    fork_until_one_lives(range(0, MOST, int(stride)), lambda: _look(dsn, family, int(run)))


async def _look(dsn: str, family: str, run: int) -> None:
    database = Database(dsn, name="killed")
    try:
        await FamilyService(database, {"hpo": plain_step}).advance(family, run)
    finally:
        await database.close()


if __name__ == "__main__":
    main(*sys.argv[1:5])
