"""Suites as the folders that attempts read: written once, kept by digest."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from steelyard.datasets.store import BlobStore
from steelyard.evals import repository
from steelyard.governance.access import ProjectId
from steelyard.kit.errors import InvalidSpec, StorageFull
from steelyard.specs.evaluations import (
    LIBRARY_PREFIX,
    SuiteFolder,
    SuiteManifest,
    is_built_in,
    library_digest,
)
from steelyard.storage.database import Database
from steelyard.storage.tables import SuiteRow


class SuiteFolderService:
    """Keeps suites below one folder, `<digest>/<path>`. Two at once are safe: the first to rename wins.

    Args:
        store_root: folder of the object store.
        cache: where the folders are.
    """

    def __init__(self, database: Database, store_root: Path, cache: Path) -> None:
        self._database = database
        self._store_root = store_root
        self._cache = cache

    async def materialise(self, project: ProjectId, refs: Sequence[str]) -> list[SuiteFolder]:
        """Return the folders of the suites that a pinned spec names, writing what isn't there.

        Raises:
            InvalidSpec: a suite is gone.
            StorageFull: no room.
        """
        folders: list[SuiteFolder] = []
        for ref in refs:
            name, _, digest = ref.partition("@")
            if is_built_in(name):
                continue
            if name.startswith(LIBRARY_PREFIX):
                folders.append(
                    SuiteFolder(name=name, digest=digest or library_digest(name), path=None, tasks=[])
                )
                continue
            async with self._database.transaction() as session:
                row = await repository.find_suite(session, project, name, digest or None, removed=True)
            if row is None:
                raise InvalidSpec(f"suite {ref!r} is gone; add it again", param="evaluation.suites")
            folders.append(await self._folder_of(row))
        return folders

    async def _folder_of(self, row: SuiteRow) -> SuiteFolder:
        manifest = SuiteManifest.model_validate(row.manifest)
        folder = self._cache / row.digest.replace(":", "-")
        if not folder.is_dir():
            await asyncio.to_thread(self._write, manifest, folder)
        return SuiteFolder(
            name=row.name, digest=row.digest, path=str(folder), tasks=manifest.tasks, runs_code=row.runs_code
        )

    def _write(self, manifest: SuiteManifest, folder: Path) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix="suite-", dir=self._cache))
        store = BlobStore.at(self._store_root)
        try:
            for file in manifest.files:
                target = temporary / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(store.fetch(file.digest, self._cache), target)
            temporary.chmod(0o755)
            os.replace(temporary, folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if folder.is_dir():
                return
            raise StorageFull(
                f"can't write the suite below {self._cache}: {error}; free some room"
            ) from error
