"""`python -m tests.killed_settlements DSN PROMOTION check|settle`: do that in children that die by SIGKILL.

The first dies before its first statement, the next before its second, and so on: see `killed_steps`.
"""

import sys

from tests.killed_steps import MOST, fork_until_one_lives

from steelyard.rollouts.promotion import PromotionService
from steelyard.storage.database import Database


def main(dsn: str, promotion_id: str, step: str) -> None:
    """Fork children until one lives."""
    fork_until_one_lives(range(MOST), lambda: _take(dsn, promotion_id, step))


async def _take(dsn: str, promotion_id: str, step: str) -> None:
    database = Database(dsn, name="killed")
    try:
        service = PromotionService(database)
        await (service.check if step == "check" else service.settle)(promotion_id)
    finally:
        await database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
