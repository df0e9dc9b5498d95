"""`python -m tests.killed_settlements DSN PROMOTION check|settle`: do that in children that die by SIGKILL.

The first dies before its first statement, the next before its second, and so on, until one lives to the end.
Prints how each ended. Commits count as statements, so that one dies just before and one just after.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from steelyard.rollouts.promotion import PromotionService
from steelyard.storage.database import Database

_MOST = 400


def main(dsn: str, promotion_id: str, step: str) -> None:
    """Fork children until one lives."""
    for number in range(_MOST):
        child = os.fork()
        if child == 0:
            _count_down(number)
            asyncio.run(_take(dsn, promotion_id, step))
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


async def _take(dsn: str, promotion_id: str, step: str) -> None:
    database = Database(dsn, name="killed")
    try:
        service = PromotionService(database)
        await (service.check if step == "check" else service.settle)(promotion_id)
    finally:
        await database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
