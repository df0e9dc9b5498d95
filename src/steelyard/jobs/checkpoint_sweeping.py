"""Taking superseded checkpoints out of the bucket. Killed at any line and called again, it goes on."""

import asyncio
import time

from sqlalchemy import select, update

from steelyard.jobs.checkpoints import SWEPT
from steelyard.jobs.lifecycle import Folders
from steelyard.storage.database import Database
from steelyard.storage.tables import CheckpointRow

_BATCH = 50
_GIVEN_UP_SECONDS = 86_400.0


class CheckpointSweepingService:
    """Sweeps a little at a time. Without a bucket there is nothing to do: trainers delete their folders."""

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    async def sweep(self) -> int:
        """Remove superseded checkpoints from the bucket and from this node; return how many there were.

        Raises:
            BucketUnavailable: try again.
        """
        objects = await asyncio.to_thread(lambda: self._folders.store)
        if objects.bucket is None:
            return 0
        await asyncio.to_thread(objects.sweep_parts, time.time() - _GIVEN_UP_SECONDS)
        async with self._database.transaction() as session:
            rows = list(
                await session.scalars(
                    select(CheckpointRow).where(CheckpointRow.status == "deleted").limit(_BATCH)
                )
            )
        for row in rows:
            folder = self._folders.job(row.project_id, row.job_id) / row.path
            await asyncio.to_thread(objects.remove_folder, folder)
            # Only now: who dies in between removes once more what is gone.
            async with self._database.transaction() as session:
                await session.execute(
                    update(CheckpointRow).where(CheckpointRow.id == row.id).values(status=SWEPT)
                )
        return len(rows)
