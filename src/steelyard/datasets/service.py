"""Ingests and versions in the database: asked for, built elsewhere, published once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.datasets.orders import IngestOrder, order_of, pin_derivation
from steelyard.datasets.origins import refuse_uri
from steelyard.datasets.sweeping import SWEEP_LOCK
from steelyard.datasets.tokenizers import TOKENIZER_PARAM, refuse_tokenizer
from steelyard.datasets.uploads import UploadService, find_uploads
from steelyard.datasets.versions import view_of
from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, InvalidRequest, NotFound
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.datasets import DatasetVersionView, VersionManifest
from steelyard.specs.ingests import (
    DatasetSummary,
    DeriveRequest,
    IngestProgress,
    IngestRequest,
    IngestView,
)
from steelyard.specs.views import ErrorBody
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import DatasetRow, DatasetVersionRow, IngestRow

INGEST_TOPIC = "start_ingest"
_ENDED = ("succeeded", "failed", "cancelled")


class DatasetService:
    """Datasets of projects.

    Args:
        sources: prefixes of the URIs that an ingest may read from.
        model_roots: folders in which a spec may name a tokenizer.
    """

    def __init__(
        self,
        database: Database,
        uploads: UploadService,
        sources: Sequence[str] = (),
        clock: Clock = utc_now,
        model_roots: Sequence[Path] = (),
    ) -> None:
        self._database = database
        self._uploads = uploads
        self._sources = sources
        self._model_roots = model_roots
        self._clock = clock

    async def request_ingest(
        self, actor: Actor, project: str, name: str, request: IngestRequest
    ) -> IngestView:
        """Ask for an ingest. The same bytes with the same spec end in the same version.

        Raises:
            InvalidRequest: an upload isn't there, or something lies where nothing may be read.
            NotFound: no such project.
        """
        self._refuse_places(request)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_WRITE)
            uploads = await find_uploads(session, checked, request.uploads)
            inputs = {
                "files": [[row.id, row.filename] for row in uploads],
                "names": {row.id: request.names[row.id] for row in uploads if row.id in request.names},
                "uris": request.uris,
                "append_to": await _parent_ref(session, checked, request),
                "decontaminate": request.decontaminate,
            }
            spec = request.spec.model_dump(mode="json")
            ingest_id = await _enter(session, checked, actor, name, inputs, spec)
            await audit.record(
                session, actor, "data.ingest", "dataset", name, project_id=checked,
                detail={"ingest": ingest_id, "uploads": request.uploads, "uris": request.uris},
            )  # fmt: skip
            return await _view(session, await session.get_one(IngestRow, ingest_id))

    def _refuse_places(self, request: IngestRequest) -> None:
        for place, uri in enumerate(request.uris):
            if (reason := refuse_uri(uri, self._sources)) is not None:
                raise InvalidRequest(f"{uri}: {reason}", param=f"uris.{place}")
        tokenizer = request.spec.statistics.tokenizer
        reason = refuse_tokenizer(tokenizer, self._model_roots) if tokenizer else None
        if reason is not None:
            raise InvalidRequest(reason, param=TOKENIZER_PARAM)

    async def request_derivation(
        self, actor: Actor, project: str, name: str, request: DeriveRequest
    ) -> IngestView:
        """Ask for a child of versions. The same parents with the same terms end in the same version.

        Raises:
            InvalidRequest: a parent isn't there.
            NotFound: no such project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_WRITE)
            derive = await pin_derivation(session, checked, request)
            inputs: dict[str, Any] = {"files": [], "derive": derive}
            ingest_id = await _enter(session, checked, actor, name, inputs, {})
            await audit.record(
                session, actor, "data.derive", "dataset", name, project_id=checked,
                detail={"ingest": ingest_id, **request.model_dump(mode="json", exclude_none=True)},
            )  # fmt: skip
            return await _view(session, await session.get_one(IngestRow, ingest_id))

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

    async def cancel_ingest(self, actor: Actor, project: str, ingest_id: str) -> IngestView:
        """Stop an ingest before it makes a version. Cancelled again, nothing changes.

        What it finished is taken up by the same ingest, asked for anew.

        Raises:
            Conflict: it has ended.
            NotFound: no such ingest in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_WRITE)
            row = await session.get(IngestRow, ingest_id, with_for_update=True)
            if row is None or row.project_id != checked:
                raise NotFound(f"no ingest {ingest_id!r} in project {project!r}")
            if row.state in ("succeeded", "failed"):
                raise Conflict(f"ingest {ingest_id} has {row.state}; there is nothing to stop")
            if row.state != "cancelled":
                message = f"cancelled by {actor.id}; the same command goes on where it was"
                row.state = "cancelled"
                row.error = {"type": "conflict_error", "code": "cancelled", "message": message}
                row.updated_at = self._clock()
                await audit.record(
                    session, actor, "data.cancel", "dataset", row.name, project_id=checked,
                    detail={"ingest": ingest_id},
                )  # fmt: skip
            return await _view(session, row)

    async def is_cancelled(self, ingest_id: str) -> bool:
        """Whether somebody has cancelled an ingest."""
        async with self._database.transaction() as session:
            state = await session.scalar(select(IngestRow.state).where(IngestRow.id == ingest_id))
            return state == "cancelled"

    async def search(self, actor: Actor, project: str) -> list[DatasetSummary]:
        """Return a project's datasets by name."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.DATASET_READ)
            rows = await session.execute(
                select(
                    DatasetVersionRow.name,
                    func.max(DatasetVersionRow.version).label("newest"),
                    func.min(DatasetVersionRow.created_at).label("since"),
                )
                .where(DatasetVersionRow.project_id == checked, DatasetVersionRow.deleted_at.is_(None))
                .group_by(DatasetVersionRow.name)
                .order_by(DatasetVersionRow.name)
            )
            return [
                DatasetSummary(name=row.name, latest_version=row.newest, created_at=row.since) for row in rows
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
            if row.state in _ENDED:
                return IngestOrder(done=True)
            # Whoever sweeps abandoned objects holds this lock alone: it must not take one that we find there.
            await session.execute(select(func.pg_advisory_xact_lock_shared(SWEEP_LOCK)))
            row.state = "running"
            row.updated_at = self._clock()
            paths = {
                upload: str(self._uploads.path(upload, filename)) for upload, filename in row.uploads["files"]
            }
            return await order_of(session, row, paths)

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
            if row.state in ("succeeded", "cancelled"):
                return
            row.version, row.created = await _publish(session, row, manifest)
            row.state = "succeeded"
            row.updated_at = self._clock()

    async def fail(self, ingest_id: str, error: dict[str, Any]) -> None:
        """Store why there is no version."""
        async with self._database.transaction() as session:
            row = await _locked(session, ingest_id)
            if row.state not in ("succeeded", "cancelled"):
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
        return (await catalogue.resolve(session, project, request.append_to, hold=True)).ref
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="append_to") from error


async def _enter(
    session: AsyncSession,
    project: access.ProjectId,
    actor: Actor,
    name: str,
    inputs: dict[str, Any],
    spec: dict[str, Any],
) -> str:
    ingest_id = new_id("ing")
    await session.execute(
        insert(IngestRow).values(
            id=ingest_id,
            project_id=project,
            name=name,
            state="queued",
            uploads=inputs,
            spec=spec,
            progress={},
            error={},
            created_by=actor.id,
        )
    )
    await enqueue(session, INGEST_TOPIC, ingest_id, {})
    return ingest_id


async def _publish(session: AsyncSession, row: IngestRow, manifest: VersionManifest) -> tuple[int, bool]:
    """Return the number, and whether it is new. The dataset's row is locked, so numbers have no gaps."""
    await session.execute(
        upsert(DatasetRow)
        .values(project_id=row.project_id, name=row.name, latest_version=0)
        .on_conflict_do_nothing()
    )
    dataset = await session.get_one(DatasetRow, (row.project_id, row.name), with_for_update=True)
    present = await session.scalar(
        select(DatasetVersionRow).where(
            DatasetVersionRow.project_id == row.project_id,
            DatasetVersionRow.name == row.name,
            DatasetVersionRow.digest == manifest.digest,
        )
    )
    if present is not None:
        await _lift_tombstone(session, row, present)
        return present.version, False
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
    await audit.record(
        session, Actor(kind="user", id=row.created_by), "data.publish", "dataset",
        f"{row.name}@v{dataset.latest_version}",
        project_id=row.project_id, after_digest=manifest.digest, detail={"ingest": row.id},
    )  # fmt: skip
    return dataset.latest_version, True


async def _lift_tombstone(session: AsyncSession, row: IngestRow, present: DatasetVersionRow) -> None:
    """The same rows have come again, from somebody who may write: they count again."""
    if present.deleted_at is None:
        return
    detail = {"ingest": row.id, "deleted_by": present.deleted_by}
    present.deleted_at = present.deleted_by = None
    await audit.record(
        session, Actor(kind="user", id=row.created_by), "data.publish_again", "dataset",
        f"{present.name}@v{present.version}",
        project_id=row.project_id, after_digest=present.digest, detail=detail,
    )  # fmt: skip


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
