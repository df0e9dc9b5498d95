"""`python -m tests.killed_looks DSN FAMILY RUN STRIDE`: look at a family in children that die by SIGKILL.

The first dies before its first statement, the next some statements later, and so on, until one lives on.
Prints how each ended. Commits count as statements, so that one dies just before and one just after.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.households import plain_step

from steelyard.jobs.families import FamilyService
from steelyard.storage.database import Database

_MOST = 400


def main(dsn: str, family: str, run: str, stride: str) -> None:
    """Fork children until one lives."""
    # What they log would stand among what is printed here.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for number in range(0, _MOST, int(stride)):
        child = os.fork()
        if child == 0:
            _count_down(number)
            asyncio.run(_look(dsn, family, int(run)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write(f"{code}\n")
        if code == 0:
            return
    raise SystemExit("it never got through")


def _count_down(number: int) -> None:
    left = [number]

    def step(*_arguments: Any) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, step)


async def _look(dsn: str, family: str, run: int) -> None:
    database = Database(dsn, name="killed")
    try:
        await FamilyService(database, {"hpo": plain_step}).advance(family, run)
    finally:
        await database.close()


if __name__ == "__main__":
    main(*sys.argv[1:5])
