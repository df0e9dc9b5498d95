"""Whether a process logged in to the database as somebody who could own its tables."""

from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from steelyard.kit.errors import SteelyardError
from steelyard.storage.database import Database
from steelyard.storage.walls import can_pass_wall

_VARIABLES = {"api": "STEELYARD_API_DATABASE_DSN", "worker": "STEELYARD_WORKER_DATABASE_DSN"}
_log = structlog.get_logger()


async def look_at_login(database: Database, process: Literal["api", "worker"]) -> None:
    """Say in the log where a process could become the owner of its tables."""
    try:
        async with database.transaction() as session:
            passes = await can_pass_wall(session)
    except (SteelyardError, SQLAlchemyError) as error:
        _log.info("the process's database role wasn't looked at", error=str(error))
        return
    if passes:
        _log.warning(
            f"the {process} logs in to the database as somebody who can own its tables; give it a role of "
            f"its own ({_VARIABLES[process]}, docs/access.md)"
        )
