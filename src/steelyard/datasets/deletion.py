"""Deleting versions: gone where nothing refers to them, else a tombstone that lineage can still read."""

from collections.abc import Awaitable, Callable
from typing import Literal

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.ingests import DatasetDeletion
from steelyard.storage.database import Database
from steelyard.storage.tables import (
    AbandonedBlobRow,
    DatasetRow,
    DatasetVersionRow,
    IngestRow,
    JobRow,
    ModelVersionRow,
)

Reference = Callable[[AsyncSession, DatasetVersionRow], Awaitable[str | None]]
"""Says in a few words what refers to a version, or None."""


class DeletionService:
    """Deletes versions of datasets."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def delete(self, actor: Actor, project: str, ref: str) -> DatasetDeletion:
        """Delete `name@vN`. Its number is never given again, and its bytes go once nobody holds them.

        Raises:
            NotFound: no such version in the project, or it was deleted before.
            InvalidRequest: `ref` names no version.
        """
        if "@v" not in ref:
            raise InvalidRequest(f"{ref!r} names no version; write {ref}@vN", param="ref")
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_DELETE)
            row = await _locked(session, checked, ref)
            kept_for = await _first_reference(session, row)
            outcome: Literal["gone", "tombstone"] = "gone" if kept_for is None else "tombstone"
            if outcome == "gone":
                await _abandon_blobs(session, row)
                await session.execute(delete(DatasetVersionRow).where(_is(row)))
            else:
                row.deleted_at, row.deleted_by = self._clock(), actor.id
            await audit.record(
                session, actor, "data.delete", "dataset", ref, project_id=checked,
                before_digest=row.digest, detail={"outcome": outcome, "kept_for": kept_for},
            )  # fmt: skip
            return DatasetDeletion(ref=ref, outcome=outcome, kept_for=kept_for)


async def _locked(session: AsyncSession, project: ProjectId, ref: str) -> DatasetVersionRow:
    """Take the dataset's row first, as whoever publishes does, so that the two don't meet half-way."""
    try:
        found = await catalogue.resolve(session, project, ref)
    except InvalidRequest as error:
        raise NotFound(error.message, param="ref") from error
    await session.get_one(DatasetRow, (project, found.name), with_for_update=True)
    return await session.get_one(
        DatasetVersionRow, (project, found.name, found.version), with_for_update=True
    )


async def _first_reference(session: AsyncSession, row: DatasetVersionRow) -> str | None:
    for reference in _REFERENCES:
        if (found := await reference(session, row)) is not None:
            return found
    return None


async def _of_a_model(session: AsyncSession, row: DatasetVersionRow) -> str | None:
    found = await session.scalar(
        select(ModelVersionRow.name)
        .where(
            ModelVersionRow.project_id == row.project_id,
            ModelVersionRow.lineage["dataset"].astext == row.digest,
        )
        .limit(1)
    )
    return None if found is None else f"model {found}"


async def _of_a_job(session: AsyncSession, row: DatasetVersionRow) -> str | None:
    ref = f"{row.name}@v{row.version}"
    found = await session.scalar(
        select(JobRow.id)
        .where(JobRow.project_id == row.project_id, JobRow.lineage["dataset_ref"].astext == ref)
        .limit(1)
    )
    return None if found is None else f"job {found}"


async def _of_a_child(session: AsyncSession, row: DatasetVersionRow) -> str | None:
    child = await session.scalar(
        select(DatasetVersionRow)
        .where(
            DatasetVersionRow.project_id == row.project_id,
            DatasetVersionRow.manifest["parents"].contains([{"digest": row.digest}]),
        )
        .limit(1)
    )
    return None if child is None else f"dataset {child.name}@v{child.version}"


async def _of_an_ingest(session: AsyncSession, row: DatasetVersionRow) -> str | None:
    ref = f"{row.name}@v{row.version}"
    appends = IngestRow.uploads["append_to"].astext == ref
    derives = IngestRow.uploads["derive"]["parents"].contains([{"ref": ref}])
    found = await session.scalar(
        select(IngestRow.id)
        .where(
            IngestRow.project_id == row.project_id,
            IngestRow.state.in_(("queued", "running")),
            appends | derives,
        )
        .limit(1)
    )
    return None if found is None else f"ingest {found}"


_REFERENCES: tuple[Reference, ...] = (_of_a_model, _of_a_job, _of_a_child, _of_an_ingest)


async def _abandon_blobs(session: AsyncSession, row: DatasetVersionRow) -> None:
    """The version's own digest goes along: its report shows rows, and its exported files hold them."""
    digests = {row.digest, *(shard["digest"] for shard in row.manifest["shards"])}
    abandoned = [{"digest": digest} for digest in sorted(digests)]
    await session.execute(insert(AbandonedBlobRow).values(abandoned).on_conflict_do_nothing())


def _is(row: DatasetVersionRow) -> ColumnElement[bool]:
    return (
        (DatasetVersionRow.project_id == row.project_id)
        & (DatasetVersionRow.name == row.name)
        & (DatasetVersionRow.version == row.version)
    )
