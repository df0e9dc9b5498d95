"""What MLflow should hold, as the database has it. For the platform's own processes alone."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.kit.errors import NotFound
from steelyard.rollouts.mirror_faults import WantedModel, WantedVersion
from steelyard.rollouts.mirror_tags import tags_of
from steelyard.storage.tables import AliasRow, ModelRow, ModelVersionRow, OutboxRow

MIRROR_TOPIC = "mirror_alias"
"""Promise that MLflow's alias will follow ours; its key is `project/model/alias`."""
RESTORE_TOPIC = "restore_model"
"""Promise that a model in MLflow will be as ours is; its key is `project/model`."""

Name = tuple[ProjectId, str]


async def read_wanted(session: AsyncSession, project: ProjectId, model: str) -> WantedModel:
    """Return what one model should be in MLflow.

    Raises:
        NotFound: no such model.
    """
    found = await read_all_wanted(session, (project, model))
    if (project, model) not in found:
        raise NotFound(f"no model {model!r} in project {project!r}; 'steelyard models list' shows them")
    return found[project, model]


async def read_all_wanted(session: AsyncSession, only: Name | None = None) -> Mapping[Name, WantedModel]:
    """Return what all models should be in MLflow, or one of them."""
    promised = await _promises(session)
    models = select(ModelRow)
    versions = select(ModelVersionRow)
    aliases = select(AliasRow)
    if only is not None:
        models = models.where(tuple_(ModelRow.project_id, ModelRow.name) == only)
        versions = versions.where(tuple_(ModelVersionRow.project_id, ModelVersionRow.name) == only)
        aliases = aliases.where(tuple_(AliasRow.project_id, AliasRow.model) == only)
    made: dict[tuple[str, str], dict[int, ModelVersionRow]] = defaultdict(dict)
    for row in await session.scalars(versions):
        made[row.project_id, row.name][row.version] = row
    points: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in await session.scalars(aliases):
        points[row.project_id, row.model][row.alias] = (row.version, row.sequence)
    return {
        (ProjectId(row.project_id), row.name): _wanted(
            row, made[row.project_id, row.name], points[row.project_id, row.name], promised
        )
        for row in await session.scalars(models)
    }


def _wanted(
    model: ModelRow,
    versions: Mapping[int, ModelVersionRow],
    aliases: Mapping[str, tuple[int, int]],
    promised: frozenset[str],
) -> WantedModel:
    key = f"{model.project_id}/{model.name}"
    return WantedModel(
        repairs=model.mirror_repairs,
        versions={
            number: WantedVersion(row.mlflow_version, row.mlflow_run_id, tags_of(row))
            for number, row in versions.items()
            if row.mlflow_version is not None
        },
        pending=frozenset(number for number, row in versions.items() if row.mlflow_version is None),
        aliases=aliases,
        late=frozenset(alias for alias in aliases if f"{key}/{alias}" in promised),
        under_way=key in promised,
    )


async def _promises(session: AsyncSession) -> frozenset[str]:
    """Return the keys of what is on its way to MLflow."""
    query = select(OutboxRow.key).where(OutboxRow.topic.in_((MIRROR_TOPIC, RESTORE_TOPIC)))
    return frozenset(await session.scalars(query))
