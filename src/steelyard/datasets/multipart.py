"""Uploads in parts: begun, taken up again after any break, checked part by part and once as a whole."""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.uploads import UploadService
from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_file
from steelyard.kit.errors import Conflict, InvalidRequest, NotFound, StorageFull
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.ingests import UploadOrder, UploadState
from steelyard.storage.database import Database
from steelyard.storage.tables import UploadPartRow, UploadRow

PART_BYTES = 16 << 20
_MAX_PARTS = 10_000


class MultipartService:
    """Takes files in parts. Parts may come in any order, at once, and again.

    A part is written beside the others, and counts when its row says so; a killed api leaves bytes that the
    same part overwrites.
    """

    def __init__(self, database: Database, uploads: UploadService, part_bytes: int = PART_BYTES) -> None:
        self._database = database
        self._uploads = uploads
        self._part_bytes = part_bytes

    async def begin(self, actor: Actor, project: str, order: UploadOrder) -> UploadState:
        """Return where to go on: the upload of the same bytes under the same name, or a new one.

        Raises:
            InvalidRequest: too many bytes.
            NotFound: no such project.
        """
        if order.size_bytes > self._uploads.max_bytes:
            raise InvalidRequest(f"larger than {self._uploads.max_bytes} bytes; split it", param="size_bytes")
        part_bytes = max(self._part_bytes, -(-order.size_bytes // _MAX_PARTS))
        async with self._writing(actor, project) as (session, checked):
            row = await self._present(session, checked, order)
            if row is None:
                row = UploadRow(
                    id=new_id("upl"),
                    project_id=checked,
                    filename=order.filename,
                    size_bytes=order.size_bytes,
                    digest=order.digest,
                    state="receiving",
                    part_size_bytes=part_bytes,
                    created_by=actor.id,
                )
                session.add(row)
            return await _state(session, row)

    async def look(self, actor: Actor, project: str, upload_id: str) -> UploadState:
        """Return how much is there.

        Raises:
            NotFound: no such upload in the project.
        """
        async with self._writing(actor, project) as (session, checked):
            return await _state(session, await _find(session, checked, upload_id))

    async def receive(
        self,
        actor: Actor,
        project: str,
        upload_id: str,
        number: int,
        pieces: AsyncIterator[bytes],
        digest: str,
    ) -> UploadState:
        """Store one part, from 1. Sent again, it changes nothing.

        Args:
            digest: `sha256:<hex>` of the part.

        Raises:
            InvalidRequest: no such part, or not the bytes that were announced.
            NotFound: no such upload in the project.
            StorageFull: no room.
        """
        async with self._writing(actor, project) as (session, checked):
            row = await _find(session, checked, upload_id)
            state = await _state(session, row)
        if row.state == "complete" or number in state.parts:
            return state
        size = _size_of(row, number)
        await self._write(row, number, size, pieces, digest)
        async with self._writing(actor, project) as (session, checked):
            await session.execute(
                insert(UploadPartRow)
                .values(upload_id=row.id, number=number, project_id=checked, size_bytes=size, digest=digest)
                .on_conflict_do_nothing()
            )
            return await _state(session, await _find(session, checked, upload_id))

    async def complete(self, actor: Actor, project: str, upload_id: str) -> UploadState:
        """Check the whole and make it an upload like any other. Done again, it changes nothing.

        Raises:
            Conflict: parts are missing; the message names the first.
            InvalidRequest: the whole isn't what was announced; all parts are to be sent again.
            NotFound: no such upload in the project.
        """
        async with self._writing(actor, project) as (session, checked):
            row = await _find(session, checked, upload_id)
            state = await _state(session, row)
        if row.state == "complete":
            return state
        missing = sorted(set(range(1, _count(row) + 1)) - set(state.parts))
        if missing:
            raise Conflict(
                f"part {missing[0]} is missing ({len(missing)} of {_count(row)} in all); send it first"
            )
        if not await asyncio.to_thread(self._join, row):
            async with self._writing(actor, project) as (session, _):
                await session.execute(delete(UploadRow).where(UploadRow.id == row.id))
            raise InvalidRequest(
                f"the whole isn't what {row.digest} is the digest of; begin again", param="digest"
            )
        async with self._writing(actor, project) as (session, checked):
            await session.execute(
                update(UploadRow)
                .where(UploadRow.id == row.id, UploadRow.state == "receiving")
                .values(state="complete")
            )
            await audit.record(
                session, actor, "data.upload", "upload", row.id, project_id=checked, after_digest=row.digest
            )
            return await _state(session, await _find(session, checked, upload_id))

    @asynccontextmanager
    async def _writing(self, actor: Actor, project: str) -> AsyncGenerator[tuple[AsyncSession, ProjectId]]:
        """Open a transaction of somebody who may write. A part takes its time: each asks anew."""
        async with self._database.transaction() as session:
            yield session, await access.authorize(session, actor, project, Permission.DATASET_WRITE)

    async def _present(
        self, session: AsyncSession, project: ProjectId, order: UploadOrder
    ) -> UploadRow | None:
        rows = await session.scalars(
            select(UploadRow)
            .where(
                UploadRow.project_id == project,
                UploadRow.digest == order.digest,
                UploadRow.filename == order.filename,
                UploadRow.size_bytes == order.size_bytes,
            )
            .order_by(UploadRow.created_at.desc())
        )
        for row in rows:
            if row.state == "receiving" or self._uploads.path(row.id, row.filename).is_file():
                return row
        return None

    async def _write(
        self, row: UploadRow, number: int, size: int, pieces: AsyncIterator[bytes], digest: str
    ) -> None:
        path = self._partial(row)
        state, written = hashlib.sha256(), 0
        offset = (number - 1) * (row.part_size_bytes or 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                async for piece in pieces:
                    written += len(piece)
                    if written > size:
                        raise InvalidRequest(f"part {number} has {size} bytes, not more", param="number")
                    os.pwrite(descriptor, piece, offset + written - len(piece))
                    state.update(piece)
                await asyncio.to_thread(os.fsync, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageFull(f"can't write to {path.parent}: {error.strerror}; free some room") from error
        if written != size or f"sha256:{state.hexdigest()}" != digest:
            raise InvalidRequest(
                f"part {number} isn't the bytes that were announced; send it again", param="number"
            )

    def _join(self, row: UploadRow) -> bool:
        """Put the whole file in its place; False where it isn't what was announced, and all of it is gone.

        One at a time: who asks again while the first answer is still to come finds the file in its place.
        """
        partial, target = self._partial(row), self._uploads.path(row.id, row.filename)
        try:
            with _held(partial.parent):
                return self._put_in_place(row, partial, target)
        except FileNotFoundError:
            return False

    def _put_in_place(self, row: UploadRow, partial: Path, target: Path) -> bool:
        if target.is_file():
            return True
        if (
            partial.is_file()
            and partial.stat().st_size == row.size_bytes
            and digest_file(partial) == row.digest
        ):
            os.replace(partial, target)
            return True
        shutil.rmtree(partial.parent, ignore_errors=True)
        return False

    def _partial(self, row: UploadRow) -> Path:
        return self._uploads.path(row.id, f".{row.filename}.partial")


@contextmanager
def _held(folder: Path) -> Generator[None]:
    """Hold a folder against all processes of this machine.

    Raises:
        FileNotFoundError: it is gone.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _count(row: UploadRow) -> int:
    return -(-row.size_bytes // (row.part_size_bytes or row.size_bytes))


def _size_of(row: UploadRow, number: int) -> int:
    if not 1 <= number <= _count(row):
        raise InvalidRequest(f"parts go from 1 to {_count(row)}", param="number")
    part = row.part_size_bytes or row.size_bytes
    return part if number < _count(row) else row.size_bytes - part * (number - 1)


async def _find(session: AsyncSession, project: ProjectId, upload_id: str) -> UploadRow:
    row = await session.get(UploadRow, upload_id, populate_existing=True)
    if row is None or row.project_id != project:
        raise NotFound(f"no upload {upload_id!r} in project {project!r}; begin it first", param="upload")
    return row


async def _state(session: AsyncSession, row: UploadRow) -> UploadState:
    numbers = await session.scalars(
        select(UploadPartRow.number).where(UploadPartRow.upload_id == row.id).order_by(UploadPartRow.number)
    )
    return UploadState(
        id=row.id,
        filename=row.filename,
        size_bytes=row.size_bytes,
        digest=row.digest,
        state="complete" if row.state == "complete" else "receiving",
        part_size_bytes=row.part_size_bytes,
        parts=list(numbers),
    )
