"""Suites: added, named, removed; and what jobs and datasets need of them."""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.store import BlobStore
from steelyard.evals import repository
from steelyard.evals.suite_files import CheckedSuite, check_suite
from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidSpec, NotFound
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.blocks import EvaluationBlock
from steelyard.specs.evaluations import (
    LIBRARY_PREFIX,
    SuiteManifest,
    SuiteUpload,
    SuiteView,
    is_built_in,
    library_digest,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import SuiteRow


@dataclass(frozen=True)
class SuiteTexts:
    """All texts of one suite, for who keeps training data apart from it."""

    name: str
    digest: str
    texts: list[str]


class SuiteService:
    """Keeps suites: rows here, files in the object store, each under its own digest.

    Args:
        store_root: folder of the object store.
        allow_code: whether suites may name Python functions, which run in attempts.
    """

    def __init__(self, database: Database, store_root: Path, *, allow_code: bool = False) -> None:
        self._database = database
        self._store_root = store_root
        self._allow_code = allow_code

    async def add(self, actor: Actor, project: str, upload: SuiteUpload) -> SuiteView:
        """Keep a suite. Equal files under one name are one version, however often they are sent.

        Raises:
            InvalidRequest: something in it may not be; `param` names the file.
            NotFound: no such project or organization.
        """
        async with self._database.transaction() as session:
            await self._authorize_owner(session, actor, project, upload.organization)
        checked = await asyncio.to_thread(check_suite, upload.files, allow_code=self._allow_code)
        texts_digest = await asyncio.to_thread(self._put, checked)
        async with self._database.transaction() as session:
            owner = await self._authorize_owner(session, actor, project, upload.organization)
            digest = checked.manifest.digest()
            row = await repository.add_suite(
                session,
                {
                    "id": new_id("suite"),
                    "project_id": None if upload.organization else owner,
                    "organization_id": upload.organization,
                    "name": upload.name,
                    "digest": digest,
                    "manifest": checked.manifest.model_dump(mode="json"),
                    "size_bytes": sum(file.size for file in checked.manifest.files),
                    "texts_digest": texts_digest,
                    "runs_code": checked.runs_code,
                    "created_by": actor.id,
                },
            )
            if row is None:
                row = await repository.same_suite(session, owner, upload.organization, upload.name, digest)
                if row.removed_at is None:
                    return _view(row, created=False)
                row.removed_at = None
            await audit.record(
                session, actor, "suite.add", "suite", f"{upload.name}@{digest}", project_id=owner,
                after_digest=digest, detail={"organization": upload.organization or ""},
            )  # fmt: skip
            return _view(row)

    async def search(self, actor: Actor, project: str) -> list[SuiteView]:
        """Return all versions that the project sees, by name, newest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            return [_view(row) for row in await repository.visible_suites(session, checked)]

    async def get(self, actor: Actor, project: str, name: str, digest: str | None = None) -> SuiteView:
        """Return a version: the newest, or the one of a digest, removed or not.

        Raises:
            NotFound: no such suite in the project or its organization.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.EVALUATION_READ)
            row = await repository.find_suite(session, checked, name, digest, removed=digest is not None)
            if row is None:
                raise _no_suite(name, digest)
            return _view(row)

    async def remove(self, actor: Actor, project: str, name: str, digest: str | None = None) -> SuiteView:
        """Let no new job name it. Results, and jobs that were pinned to it, keep it.

        Raises:
            NotFound: no such suite in the project or its organization.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.SUITE_WRITE)
            row = await repository.find_suite(session, checked, name, digest)
            if row is None:
                raise _no_suite(name, digest)
            if row.organization_id is not None:
                await access.authorize_organization(
                    session, actor, row.organization_id, Permission.ORGANIZATION_WRITE
                )
            row.removed_at = func.now()
            await session.flush()
            await session.refresh(row)
            await audit.record(
                session, actor, "suite.remove", "suite", f"{row.name}@{row.digest}",
                project_id=checked, before_digest=row.digest,
            )  # fmt: skip
            return _view(row)

    async def _authorize_owner(
        self, session: AsyncSession, actor: Actor, project: str, organization: str | None
    ) -> ProjectId:
        checked = await access.authorize(session, actor, project, Permission.SUITE_WRITE)
        if organization is not None:
            await access.authorize_organization(session, actor, organization, Permission.ORGANIZATION_WRITE)
        return checked

    def _put(self, checked: CheckedSuite) -> str:
        """Store the files, and the texts as an object of their own; return its digest."""
        store = BlobStore.at(self._store_root)
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate(checked.contents.values()):
                path = Path(folder) / str(number)
                path.write_bytes(data)
                store.put_file(path)
            texts = Path(folder) / "texts"
            texts.write_text("".join(f"{json.dumps(text)}\n" for text in checked.texts), encoding="utf-8")
            return store.put_file(texts)


async def pin_suites(session: AsyncSession, project: ProjectId, block: EvaluationBlock) -> EvaluationBlock:
    """Return the block with every suite of files fixed to a digest.

    Raises:
        InvalidSpec: a suite isn't there, or was removed.
    """
    pinned = [await _pin(session, project, ref, place) for place, ref in enumerate(block.suites)]
    return block.model_copy(update={"suites": pinned})


def suite_lineage(block: EvaluationBlock | None) -> dict[str, str]:
    """Return the digests of pinned suites as lineage: `suite.NAME`."""
    refs = block.suites if block else []
    return {
        f"suite.{name.replace(':', '.')}": digest
        for name, _, digest in (ref.partition("@") for ref in refs)
        if digest
    }


async def texts_of(
    database: Database, store_root: Path, project: ProjectId, names: Sequence[str] | None = None
) -> list[SuiteTexts]:
    """Return the texts of all suites that a project sees, or of those named, for decontamination.

    Raises:
        NotFound: a suite that is named isn't there.
    """
    async with database.transaction() as session:
        rows = await repository.visible_suites(session, project)
    known = {row.name for row in rows}
    for name in names or ():
        if name not in known:
            raise _no_suite(name, None)
    wanted = [row for row in rows if names is None or row.name in names]
    return await asyncio.to_thread(lambda: list(_read_texts(store_root, wanted)))


def _read_texts(store_root: Path, rows: Sequence[SuiteRow]) -> Iterator[SuiteTexts]:
    store = BlobStore.at(store_root)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            lines = store.fetch(row.texts_digest, Path(folder)).read_text(encoding="utf-8").splitlines()
            yield SuiteTexts(row.name, row.digest, [json.loads(line) for line in lines])


async def _pin(session: AsyncSession, project: ProjectId, ref: str, place: int) -> str:
    name, _, digest = ref.partition("@")
    if is_built_in(name):
        return name
    if name.startswith(LIBRARY_PREFIX):
        return f"{name}@{library_digest(name)}"
    row = await repository.find_suite(session, project, name, digest or None)
    if row is None:
        raise InvalidSpec(
            f"there is no suite {ref!r}; 'steelyard evals suites list' shows what there is",
            param=f"evaluation.suites.{place}",
        )
    return f"{name}@{row.digest}"


def _view(row: SuiteRow, *, created: bool = True) -> SuiteView:
    manifest = SuiteManifest.model_validate(row.manifest)
    return SuiteView(
        id=row.id,
        name=row.name,
        digest=row.digest,
        scope="project" if row.project_id else "organization",
        tasks=manifest.tasks,
        files=manifest.files,
        size_bytes=row.size_bytes,
        runs_code=row.runs_code,
        created_by=row.created_by,
        created_at=row.created_at,
        removed_at=row.removed_at,
        created=created,
    )


def _no_suite(name: str, digest: str | None) -> NotFound:
    ref = f"{name}@{digest}" if digest else name
    return NotFound(f"no suite {ref!r}; 'steelyard evals suites list' shows what there is", param="suite")
