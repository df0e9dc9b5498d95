"""The catalogue of dataset versions: finding what a spec's `ref` means."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import InvalidSpec
from steelyard.storage.tables import DatasetVersionRow

_REF = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)(@v(?P<version>[1-9][0-9]{0,8}))?", re.ASCII)


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version."""

    name: str
    version: int
    digest: str
    format: str
    rows_train: int
    rows_validation: int
    manifest: dict[str, Any]

    @property
    def ref(self) -> str:
        """The pinned form, `name@vN`."""
        return f"{self.name}@v{self.version}"


async def resolve(
    session: AsyncSession, project: ProjectId, ref: str, *, deleted_too: bool = False, hold: bool = False
) -> DatasetVersion:
    """Return the version that `name@vN`, or a bare `name` (its newest), stands for.

    Args:
        deleted_too: tombstones count; for lineage, and for what was begun before.
        hold: nobody deletes the version before this transaction ends; for who writes down that it is used.

    Raises:
        InvalidSpec: the project has no such dataset or version.
    """
    name, version = _parse(ref)
    query = select(DatasetVersionRow).where(
        DatasetVersionRow.project_id == project, DatasetVersionRow.name == name
    )
    if version is not None:
        query = query.where(DatasetVersionRow.version == version)
    elif not deleted_too:
        query = query.where(DatasetVersionRow.deleted_at.is_(None))
    if hold:
        query = query.with_for_update(read=True, key_share=True)
    row = await session.scalar(query.order_by(DatasetVersionRow.version.desc()).limit(1))
    if row is None:
        raise InvalidSpec(
            f"no dataset {ref!r} in project {project!r}; 'steelyard data list' shows what there is, and"
            f" 'steelyard data ingest FILE --name {name or 'NAME'}' makes one",
            param="dataset.ref",
        )
    if row.deleted_at is not None and not deleted_too:
        raise InvalidSpec(
            f"dataset {ref!r} was deleted by {row.deleted_by} on {row.deleted_at:%Y-%m-%d}; ingest its files "
            "again, or name another version",
            param="dataset.ref",
        )
    return DatasetVersion(
        row.name, row.version, row.digest, row.format, row.rows_train, row.rows_validation, row.manifest
    )


def _parse(ref: str) -> tuple[str, int | None]:
    """Return name and number; a reference that can't be one has a name and number that nothing has."""
    found = _REF.fullmatch(ref)
    if found is None:
        return "", 0
    return found["name"], int(found["version"]) if found["version"] else None
