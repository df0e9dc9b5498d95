"""Taking away tokenized caches that nobody has used for long, or whose dataset version is gone."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, delete, exists, select

from steelyard.kit.clock import Clock, utc_now
from steelyard.runtime.folder_lock import hold
from steelyard.specs.states import TERMINAL_STATES
from steelyard.storage.database import Database
from steelyard.storage.tables import DatasetVersionRow, JobRow, TokenizedCacheRow

_BATCH = 50
_UNUSED = timedelta(days=14)
_SETTLING = timedelta(hours=1)
"""A job that has just found a cache may not have written down yet that it uses it."""
_UNRECORDED = timedelta(days=2)


class TokenSweepingService:
    """Sweeps a little at each call. May be killed at any line and called again.

    Args:
        root: folder of caches.
        unused: how long a cache is kept after its last use.
    """

    def __init__(
        self, database: Database, root: Path, unused: timedelta = _UNUSED, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._root = root
        self._unused = unused
        self._clock = clock

    async def sweep(self) -> int:
        """Take away what is due, at most some dozens of folders; return how many there were.

        What a job that has not ended reads is never due.
        """
        now = self._clock()
        old = TokenizedCacheRow.last_used_at < now - self._unused
        orphaned = ~_has_version() & (TokenizedCacheRow.last_used_at < now - _SETTLING)
        async with self._database.transaction() as session:
            # Who finds a cache marks it used first, and waits for this: then it is gone, or it stays.
            due = select(TokenizedCacheRow).where(old | orphaned, ~_is_read()).limit(_BATCH)
            rows = list(await session.scalars(due.with_for_update(skip_locked=True)))
            for row in rows:
                await session.execute(
                    delete(TokenizedCacheRow).where(
                        TokenizedCacheRow.project_id == row.project_id, TokenizedCacheRow.key == row.key
                    )
                )
        await asyncio.to_thread(_remove, [Path(row.path) for row in rows])
        return len(rows) + await self._sweep_unrecorded()

    async def _sweep_unrecorded(self) -> int:
        """Folders without a row: work that was given up, or that was swept and its sweeper killed."""
        before = (self._clock() - _UNRECORDED).timestamp()
        found = await asyncio.to_thread(_old_folders, self._root, before)
        if not found:
            return 0
        async with self._database.transaction() as session:
            query = select(TokenizedCacheRow.path).where(
                TokenizedCacheRow.path.in_([str(folder) for folder in found])
            )
            kept = set(await session.scalars(query))
        due = [folder for folder in found if str(folder) not in kept][:_BATCH]
        await asyncio.to_thread(_remove, due)
        return len(due)


def _is_read() -> ColumnElement[bool]:
    return exists().where(
        JobRow.project_id == TokenizedCacheRow.project_id,
        JobRow.state.not_in(TERMINAL_STATES),
        JobRow.prepared["tokens"]["folder"].astext == TokenizedCacheRow.path,
    )


def _has_version() -> ColumnElement[bool]:
    return exists().where(
        DatasetVersionRow.project_id == TokenizedCacheRow.project_id,
        DatasetVersionRow.digest == TokenizedCacheRow.dataset_digest,
        DatasetVersionRow.deleted_at.is_(None),
    )


def _old_folders(root: Path, before: float) -> list[Path]:
    if not root.is_dir():
        return []
    folders = (folder for project in root.iterdir() if project.is_dir() for folder in project.iterdir())
    return sorted(folder for folder in folders if folder.is_dir() and folder.stat().st_mtime < before)


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        cache = folder.with_name(folder.name.removesuffix(".partial"))
        with hold(cache, wait=False) as held:
            if held:
                shutil.rmtree(folder, ignore_errors=True)
