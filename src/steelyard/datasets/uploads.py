"""Files that users send: streamed to disk, digested, and named by id, so that no name of theirs is a path."""

import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest, StorageFull
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.ingests import UploadView
from steelyard.storage.database import Database
from steelyard.storage.tables import UploadRow

_FILENAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")


class UploadService:
    """Takes files.

    Args:
        folder: where they are kept, one folder an upload.
        max_bytes: the largest file that is taken.
    """

    def __init__(self, database: Database, folder: Path, max_bytes: int = 64 << 30) -> None:
        self._database = database
        self._folder = folder
        self.max_bytes = max_bytes

    async def receive(
        self, actor: Actor, project: str, filename: str, pieces: AsyncIterator[bytes], digest: str | None
    ) -> UploadView:
        """Store a file. It counts when all of it is on the disk; what breaks off leaves nothing behind.

        Args:
            digest: `sha256:<hex>` that the bytes must have, if the sender says so.

        Raises:
            InvalidRequest: a bad name, too many bytes, or not the bytes that were announced.
            StorageFull: no room.
            NotFound: no such project.
        """
        if not _FILENAME.match(filename):
            raise InvalidRequest(
                "filename must be letters, digits, '.', '_' and '-', such as chats.jsonl", param="filename"
            )
        async with self._database.transaction() as session:
            await access.authorize(session, actor, project, Permission.DATASET_WRITE)
        upload_id = new_id("upl")
        path = self.path(upload_id, filename)
        path.parent.mkdir(parents=True)
        try:
            size, actual = await self._write(path, pieces)
            if digest is not None and digest != actual:
                raise InvalidRequest(f"the bytes have digest {actual}, not {digest}; send them again")
            await self._enter(actor, project, upload_id, filename, size, actual)
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return UploadView(id=upload_id, filename=filename, size_bytes=size, digest=actual)

    def path(self, upload_id: str, filename: str) -> Path:
        """Return where an upload lies."""
        return self._folder / upload_id / filename

    async def _write(self, path: Path, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
        state, size = hashlib.sha256(), 0
        try:
            with path.open("wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.max_bytes:
                        raise InvalidRequest(f"larger than {self.max_bytes} bytes; send smaller files")
                    file.write(piece)
                    state.update(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            free = shutil.disk_usage(self._folder).free >> 20
            raise StorageFull(f"can't write to {self._folder} ({free} MiB free): {error}") from error
        return size, f"sha256:{state.hexdigest()}"

    async def _enter(
        self, actor: Actor, project: str, upload_id: str, filename: str, size: int, digest: str
    ) -> None:
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_WRITE)
            await session.execute(
                insert(UploadRow).values(
                    id=upload_id,
                    project_id=checked,
                    filename=filename,
                    size_bytes=size,
                    digest=digest,
                    state="complete",
                    created_by=actor.id,
                )
            )
            await audit.record(
                session, actor, "data.upload", "upload", upload_id, project_id=checked, after_digest=digest
            )


async def find_uploads(session: AsyncSession, project: ProjectId, ids: list[str]) -> list[UploadRow]:
    """Return uploads in the order of `ids`.

    Raises:
        InvalidRequest: one isn't the project's.
    """
    rows = await session.scalars(
        select(UploadRow).where(
            UploadRow.project_id == project, UploadRow.id.in_(ids), UploadRow.state == "complete"
        )
    )
    found = {row.id: row for row in rows}
    for upload_id in ids:
        if upload_id not in found:
            raise InvalidRequest(
                f"no upload {upload_id!r} in this project; upload the file first", param="uploads"
            )
    return [found[upload_id] for upload_id in ids]
