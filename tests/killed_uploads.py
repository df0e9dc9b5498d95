"""`python -m tests.killed_uploads DSN FOLDER ATTEMPT`: bring what a gone attempt left to the bucket."""

import asyncio
import sys
from pathlib import Path

from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.storing import StoringService
from steelyard.storage.database import Database


async def main(dsn: str, folder: Path, attempt_id: str) -> None:
    """Do it, as the attempt's watcher would."""
    database = Database(dsn, name="killed-upload")
    folders = Folders(objects=folder / "objects", attempts=folder / "attempts")
    async with StoringService(database, folders).keeping_up(attempt_id) as finish:
        await finish(None)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
