"""Taking away what nobody refers to: objects of deleted versions, old uploads, work that was given up.

Everything here may be killed at any line and called again.
"""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, exists, func, join, select, true
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.files import export_folder
from steelyard.datasets.store import BlobStore, key_of, report_key
from steelyard.kit.clock import Clock, utc_now
from steelyard.storage.bucket_settings import uses_bucket
from steelyard.storage.database import Database
from steelyard.storage.tables import AbandonedBlobRow, DatasetVersionRow, IngestRow, UploadRow

SWEEP_LOCK = 0x5D5
"""Advisory lock: shared by whoever begins an ingest, alone for whoever takes objects away."""
_BATCH = 200
_BATCH_OF_A_BUCKET = 20
_UNFINISHED = timedelta(days=2)
_UNUSED = timedelta(days=7)
_WORK = timedelta(days=7)
_INCOMING, _SPOOL = "incoming", "spool"
_SHARED = (_INCOMING, _SPOOL)
"""Folders of the work folder that all ingests share: only what is in them is ever due."""


class SweepingService:
    """Sweeps a little at each call.

    Args:
        store_root: folder of the object store.
        uploads: folder of uploads, one folder each.
        work_root: folder of work that an ingest left for its next try.
        exports: folder of versions as files (`DatasetFileService`), where there is one.
    """

    def __init__(
        self,
        database: Database,
        store_root: Path,
        uploads: Path,
        work_root: Path,
        clock: Clock = utc_now,
        exports: Path | None = None,
    ) -> None:
        self._database = database
        self._store_root = store_root
        self._uploads = uploads
        self._work_root = work_root
        self._clock = clock
        self._exports = exports

    async def sweep(self) -> int:
        """Take away what is due, at most a few hundred things; return how many there were."""
        blobs = await self._sweep_blobs()
        uploads = await self._sweep_uploads()
        work = await asyncio.to_thread(self._sweep_work)
        return blobs + uploads + work

    async def _sweep_blobs(self) -> int:
        """An ingest that runs might find an object there and rely on it: then this waits for another day."""
        async with self._database.transaction() as session:
            if not await session.scalar(select(func.pg_try_advisory_xact_lock(SWEEP_LOCK))):
                return 0
            if await session.scalar(select(exists().where(IngestRow.state == "running"))):
                return 0
            # Whoever begins an ingest waits meanwhile, and a bucket takes its time for each object.
            batch = _BATCH_OF_A_BUCKET if uses_bucket() else _BATCH
            digests = list(await session.scalars(select(AbandonedBlobRow.digest).limit(batch)))
            held = await _held(session, digests)
            await asyncio.to_thread(self._remove_blobs, [digest for digest in digests if digest not in held])
            await session.execute(delete(AbandonedBlobRow).where(AbandonedBlobRow.digest.in_(digests)))
        return len(digests)

    def _remove_blobs(self, digests: Sequence[str]) -> None:
        BlobStore.at(self._store_root).remove(key for digest in digests for key in _keys_of(digest))
        for digest in digests:
            if self._exports is not None:
                shutil.rmtree(export_folder(self._exports, digest), ignore_errors=True)

    async def _sweep_uploads(self) -> int:
        """Uploads are raw files: once ingested, their rows are in a version."""
        now = self._clock()
        async with self._database.transaction() as session:
            live = exists().where(
                IngestRow.project_id == UploadRow.project_id,
                IngestRow.state.in_(("queued", "running")),
                IngestRow.uploads["files"].contains(func.jsonb_build_array(
                    func.jsonb_build_array(UploadRow.id, UploadRow.filename)
                )),
            )  # fmt: skip
            due = (UploadRow.created_at < now - _UNUSED) | (
                (UploadRow.state == "receiving") & (UploadRow.created_at < now - _UNFINISHED)
            )
            ids = list(await session.scalars(select(UploadRow.id).where(due, ~live).limit(_BATCH)))
            # Before the rows are gone: who dies in between finds the same ones again.
            await asyncio.to_thread(self._remove_folders, [self._uploads / upload for upload in ids])
            await session.execute(delete(UploadRow).where(UploadRow.id.in_(ids)))
        return len(ids)

    def _sweep_work(self) -> int:
        oldest = (self._clock() - _WORK).timestamp()
        parents = [path for path in (self._work_root, self._work_root / _INCOMING) if path.is_dir()]
        found = [path for parent in parents for path in parent.iterdir() if path.is_dir()]
        due = [path for path in found if path.name not in _SHARED and _is_older(path, oldest)]
        self._remove_folders(due)
        spool = self._work_root / _SPOOL
        spools = [path for path in spool.glob("*") if _is_older(path, oldest)]
        for path in spools:
            path.unlink(missing_ok=True)
        return len(due) + len(spools)

    def _remove_folders(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _keys_of(digest: str) -> tuple[str, ...]:
    return key_of(digest), report_key(digest, "json"), report_key(digest, "html")


def _is_older(path: Path, moment: float) -> bool:
    """Whether nothing was written there since; what another process takes away meanwhile isn't."""
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False


async def _held(session: AsyncSession, digests: Sequence[str]) -> set[str]:
    """Return which of these a version of any project still names, or is; tombstones count."""
    if not digests:
        return set()
    shard = func.jsonb_array_elements(DatasetVersionRow.manifest["shards"]).table_valued("value")
    digest = shard.c.value.op("->>")("digest")
    pairs = join(DatasetVersionRow, shard, true())
    query = select(digest).select_from(pairs).where(digest == func.any(array(digests)))
    versions = select(DatasetVersionRow.digest).where(DatasetVersionRow.digest.in_(digests))
    return {*await session.scalars(query.distinct()), *await session.scalars(versions)}
