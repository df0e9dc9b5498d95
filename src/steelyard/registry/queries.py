"""What people ask about models."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.report_links import report_of_lineage
from steelyard.governance import access
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import NotFound
from steelyard.registry import repository
from steelyard.registry.cards import write_card
from steelyard.registry.kinds import kind_of
from steelyard.registry.repository import ModelRecord
from steelyard.specs.access import Permission
from steelyard.specs.models import ModelVersionView, ModelView
from steelyard.storage.database import Database
from steelyard.storage.tables import AliasRow, ModelRow, ModelVersionRow


class ModelQueryService:
    """Reads the models of a project that the actor may see."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, actor: Actor, project: str) -> list[ModelView]:
        """Return all models by name."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            rows = await session.scalars(
                select(ModelRow).where(ModelRow.project_id == checked).order_by(ModelRow.name)
            )
            aliases = await _aliases(session, checked)
            return [_model_view(row, aliases) for row in rows]

    async def get(self, actor: Actor, project: str, name: str) -> ModelView:
        """Return one model.

        Raises:
            NotFound: no such model in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            row = await session.get(ModelRow, (checked, name))
            if row is None:
                raise _missing(project, name)
            return _model_view(row, await _aliases(session, checked))

    async def versions(self, actor: Actor, project: str, name: str) -> list[ModelVersionView]:
        """Return a model's versions, newest first.

        Raises:
            NotFound: no such model in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            rows = await session.scalars(
                select(ModelVersionRow)
                .where(ModelVersionRow.project_id == checked, ModelVersionRow.name == name)
                .order_by(ModelVersionRow.version.desc())
            )
            here = (await _aliases(session, checked)).get(name, {})
            views = [_view(row, here) for row in rows]
        if not views:
            raise _missing(project, name)
        return views

    async def statement(self, actor: Actor, project: str, name: str, version: int) -> str:
        """Return the signed statement of a version, as JSON text.

        Raises:
            NotFound: no such version in the project, or it was registered without one.
        """
        record = await self._record(actor, project, name, version)
        if record.statement is None:
            raise NotFound(f"{name}@{version} was registered without a statement")
        return record.statement.envelope

    async def card(self, actor: Actor, project: str, name: str, version: int) -> str:
        """Return the model card of a version, as Markdown.

        Raises:
            NotFound: no such version in the project.
        """
        record = await self._record(actor, project, name, version)
        return write_card(_view(record.version, {}), record.job.spec, record.evaluations)

    async def _record(self, actor: Actor, project: str, name: str, version: int) -> ModelRecord:
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            return await repository.get_record(session, checked, name, version)


async def _aliases(session: AsyncSession, project: ProjectId) -> dict[str, dict[str, int]]:
    """Return where each alias of each model points."""
    found: dict[str, dict[str, int]] = {}
    for row in await session.scalars(select(AliasRow).where(AliasRow.project_id == project)):
        found.setdefault(row.model, {})[row.alias] = row.version
    return found


def _missing(project: str, name: str) -> NotFound:
    return NotFound(f"no model {name!r} in project {project!r}; 'steelyard models list' shows them")


def _model_view(row: ModelRow, aliases: dict[str, dict[str, int]]) -> ModelView:
    return ModelView(
        name=row.name,
        latest_version=row.latest_version,
        aliases=aliases.get(row.name, {}),
        created_at=row.created_at,
    )


def _view(row: ModelVersionRow, aliases: dict[str, int]) -> ModelVersionView:
    made = {
        "aliases": [alias for alias, version in aliases.items() if version == row.version],
        "dataset_report": report_of_lineage(row.project_id, row.lineage),
        "kind": kind_of(row.lineage),
    }
    fields = {name: getattr(row, name) for name in ModelVersionView.model_fields if name not in made}
    return ModelVersionView.model_validate({**fields, **made})
