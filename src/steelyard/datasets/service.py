"""Ingests and versions in the database: asked for, built elsewhere, published once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.datasets.uploads import UploadService, find_uploads
from steelyard.datasets.versions import view_of
from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.datasets import DatasetVersionView, VersionManifest
from steelyard.specs.ingests import DatasetSummary, IngestProgress, IngestRequest, IngestView
from steelyard.specs.views import ErrorBody
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import DatasetRow, DatasetVersionRow, IngestRow

INGEST_TOPIC = "start_ingest"


@dataclass(frozen=True)
class IngestOrder:
    """What the engine needs to build a version. `done` where it was published before."""

    done: bool
    inputs: list[str]
    spec: dict[str, Any]
    parent: dict[str, Any] | None = None
    """`ref` and `manifest` of the version that the rows are appended to."""


class DatasetService:
    """Datasets of projects."""

    def __init__(self, database: Database, uploads: UploadService, clock: Clock = utc_now) -> None:
        self._database = database
        self._uploads = uploads
        self._clock = clock

    async def request_ingest(
        self, actor: Actor, project: str, name: str, request: IngestRequest
    ) -> IngestView:
        """Ask for an ingest. The same bytes with the same spec end in the same version.

        Raises:
            InvalidRequest: an upload isn't there.
            NotFound: no such project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_WRITE)
            uploads = await find_uploads(session, checked, request.uploads)
            parent = await _parent_ref(session, checked, request)
            ingest_id = new_id("ing")
            await session.execute(
                insert(IngestRow).values(
                    id=ingest_id,
                    project_id=checked,
                    name=name,
                    state="queued",
                    uploads={"files": [[row.id, row.filename] for row in uploads], "append_to": parent},
                    spec=request.spec.model_dump(mode="json"),
                    progress={},
                    error={},
                    created_by=actor.id,
                )
            )
            await audit.record(
                session, actor, "data.ingest", "dataset", name,
                project_id=checked, detail={"ingest": ingest_id, "uploads": request.uploads},
            )  # fmt: skip
            await enqueue(session, INGEST_TOPIC, ingest_id, {})
            row = await session.get_one(IngestRow, ingest_id)
            return await _view(session, row)

    async def get_ingest(self, actor: Actor, project: str, ingest_id: str) -> IngestView:
        """Return an ingest as it is now.

        Raises:
            NotFound: no such ingest in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_READ)
            row = await session.get(IngestRow, ingest_id)
            if row is None or row.project_id != checked:
                raise NotFound(f"no ingest {ingest_id!r} in project {project!r}")
            return await _view(session, row)

    async def search(self, actor: Actor, project: str) -> list[DatasetSummary]:
        """Return a project's datasets by name."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_READ)
            rows = await session.scalars(
                select(DatasetRow).where(DatasetRow.project_id == checked).order_by(DatasetRow.name)
            )
            return [
                DatasetSummary(name=row.name, latest_version=row.latest_version, created_at=row.created_at)
                for row in rows
            ]

    async def resolve(self, actor: Actor, project: str, ref: str) -> DatasetVersion:
        """Return the version that `name@vN`, or a bare `name`, stands for.

        Raises:
            NotFound: there is none in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_READ)
            try:
                return await catalogue.resolve(session, checked, ref)
            except InvalidRequest as error:
                raise NotFound(error.message) from error

    async def order(self, ingest_id: str) -> IngestOrder:
        """Return what is to be built, and note that it is begun.

        Raises:
            NotFound: no such ingest.
        """
        async with self._database.transaction() as session:
            row = await _locked(session, ingest_id)
            if row.state in ("succeeded", "failed"):
                return IngestOrder(True, [], {})
            row.state = "running"
            row.updated_at = self._clock()
            paths = [str(self._uploads.path(upload, filename)) for upload, filename in row.uploads["files"]]
            return IngestOrder(False, paths, row.spec, await _parent(session, row))

    async def note_progress(self, ingest_id: str, progress: dict[str, Any]) -> None:
        """Store how far an ingest is."""
        async with self._database.transaction() as session:
            await session.execute(
                update(IngestRow).where(IngestRow.id == ingest_id).values(progress=progress)
            )

    async def publish(self, ingest_id: str, manifest: VersionManifest) -> None:
        """Give what was built its number, or find the version with its digest; safe to call again."""
        async with self._database.transaction() as session:
            row = await _locked(session, ingest_id)
            if row.state == "succeeded":
                return
            row.version, row.created = await _publish(session, row, manifest)
            row.state = "succeeded"
            row.updated_at = self._clock()

    async def fail(self, ingest_id: str, error: dict[str, Any]) -> None:
        """Store why there is no version."""
        async with self._database.transaction() as session:
            row = await _locked(session, ingest_id)
            if row.state != "succeeded":
                row.state, row.error = "failed", error
                row.updated_at = self._clock()


def version_view(version: DatasetVersion, *, created: bool = False) -> DatasetVersionView:
    """Return a version as it is shown."""
    manifest = VersionManifest.model_validate(version.manifest)
    return view_of(version.name, version.version, manifest, created=created)


async def _parent_ref(session: AsyncSession, project: access.ProjectId, request: IngestRequest) -> str | None:
    """Pin the version that is appended to, so that a later one doesn't change what was asked for."""
    if request.append_to is None:
        return None
    try:
        return (await catalogue.resolve(session, project, request.append_to)).ref
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="append_to") from error


async def _parent(session: AsyncSession, row: IngestRow) -> dict[str, Any] | None:
    ref = row.uploads.get("append_to")
    if ref is None:
        return None
    found = await catalogue.resolve(session, access.ProjectId(row.project_id), ref)
    return {"ref": found.ref, "manifest": found.manifest}


async def _publish(session: AsyncSession, row: IngestRow, manifest: VersionManifest) -> tuple[int, bool]:
    """Return the number, and whether it is new. The dataset's row is locked, so numbers have no gaps."""
    await session.execute(
        upsert(DatasetRow)
        .values(project_id=row.project_id, name=row.name, latest_version=0)
        .on_conflict_do_nothing()
    )
    dataset = await session.get_one(DatasetRow, (row.project_id, row.name), with_for_update=True)
    present = await session.scalar(
        select(DatasetVersionRow.version).where(
            DatasetVersionRow.project_id == row.project_id,
            DatasetVersionRow.name == row.name,
            DatasetVersionRow.digest == manifest.digest,
        )
    )
    if present is not None:
        return present, False
    dataset.latest_version += 1
    await session.execute(
        insert(DatasetVersionRow).values(
            project_id=row.project_id,
            name=row.name,
            version=dataset.latest_version,
            digest=manifest.digest,
            format=manifest.format,
            rows_train=manifest.rows_train,
            rows_validation=manifest.rows_validation,
            manifest=manifest.model_dump(mode="json"),
            created_by=row.created_by,
        )
    )
    return dataset.latest_version, True


async def _locked(session: AsyncSession, ingest_id: str) -> IngestRow:
    row = await session.get(IngestRow, ingest_id, with_for_update=True)
    if row is None:
        raise NotFound(f"no ingest {ingest_id!r}")
    return row


async def _view(session: AsyncSession, row: IngestRow) -> IngestView:
    version = None
    if row.version is not None:
        found = await catalogue.resolve(
            session, access.ProjectId(row.project_id), f"{row.name}@v{row.version}"
        )
        version = version_view(found, created=bool(row.created))
    return IngestView.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "state": row.state,
            "progress": IngestProgress.model_validate(row.progress) if row.progress else None,
            "error": ErrorBody.model_validate(row.error) if row.error else None,
            "version": version,
            "created_at": row.created_at,
        }
    )


def uploads_folder(objects: Path) -> Path:
    """Return where uploads are kept below the object store's folder."""
    return objects / "uploads"
