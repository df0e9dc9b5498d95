"""MLflow's aliases: a mirror of ours. What somebody writes there directly is put right, and reported."""

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM
from steelyard.kit.errors import Unavailable
from steelyard.registry.mlflow import Mlflow, MlflowRefused
from steelyard.rollouts import repository
from steelyard.rollouts.events import announce
from steelyard.specs.promotions import Alias
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import ModelRow, ModelVersionRow, OutboxRow

MIRROR_TOPIC = "mirror_alias"
_LOCK = 20_100
_log = structlog.get_logger()


async def promise_mirror(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> None:
    """Promise that MLflow's alias will follow ours."""
    await enqueue(session, MIRROR_TOPIC, f"{project}/{model}/{alias}", {})


class AliasMirror:
    """Keeps MLflow's aliases as ours are. Any number may be at work: each ends with what is true."""

    def __init__(self, database: Database, mlflow: Mlflow) -> None:
        self._database = database
        self._mlflow = mlflow

    async def follow(self, key: str) -> None:
        """Make one alias in MLflow point to where ours points now.

        After writing it looks again, so that of two writers the one with the older value puts it right.

        Args:
            key: `project/model/alias`.

        Raises:
            Unavailable: MLflow doesn't answer, or doesn't have the version yet; try again.
        """
        project, model, alias = key.split("/")
        wanted = await self._wanted(ProjectId(project), model, Alias(alias))
        written = None
        while written is None or written[0] != wanted:
            await self._mlflow.set_alias(f"{project}.{model}", alias, wanted)
            written = (wanted,)
            wanted = await self._wanted(ProjectId(project), model, Alias(alias))

    async def reconcile(self) -> int:
        """Compare all models with MLflow, restore what differs, report it; return how many did.

        One process at a time; another's call returns at once.

        Raises:
            Unavailable: MLflow doesn't answer.
        """
        async with self._database.transaction() as session:
            if not await session.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")):
                return 0
            models = [
                (ProjectId(row.project_id), row.name)
                for row in await session.scalars(
                    select(ModelRow).order_by(ModelRow.project_id, ModelRow.name)
                )
            ]
        restored = 0
        for project, model in models:
            try:
                restored += await self._reconcile_model(project, model)
            except MlflowRefused as error:
                # As where somebody deleted the version there: the others are compared all the same.
                _log.warning("an alias can't be put right in MLflow", model=model, error=error.message)
        return restored

    async def _reconcile_model(self, project: ProjectId, model: str) -> int:
        found = await self._mlflow.aliases(f"{project}.{model}")
        if found is None:
            return 0
        restored = 0
        for alias in Alias:
            there = found.get(alias.value)
            if await self._is_under_way(f"{project}/{model}/{alias}"):
                continue
            wanted = await self._wanted(project, model, alias)
            if there == wanted:
                continue
            # Ours may have moved, and the mirror followed, since MLflow was asked.
            there = (await self._mlflow.aliases(f"{project}.{model}") or {}).get(alias.value)
            if there != await self._wanted(project, model, alias):
                restored += int(await self._restore(project, model, alias, there, wanted))
        return restored

    async def _is_under_way(self, key: str) -> bool:
        async with self._database.transaction() as session:
            return await _is_promised(session, key)

    async def _restore(
        self, project: ProjectId, model: str, alias: Alias, there: str | None, wanted: str | None
    ) -> bool:
        """Put an alias right, unless another has just promised to; return whether it was this one.

        The promise is written with the report, so that neither stands alone.
        """
        key = f"{project}/{model}/{alias}"
        words = f"MLflow's alias {alias} of {model} was {_name(there)} and is {_name(wanted)} again"
        async with self._database.transaction() as session:
            await repository.lock_alias(session, project, model, alias)
            if await _is_promised(session, key):
                return False
            detail = {"alias": alias.value, "found": there, "restored": wanted}
            await announce(session, project, model, "alias.restored", words, level="warn", data=detail)
            await audit.record(
                session,
                SYSTEM,
                "alias.restore",
                "model",
                f"{model}@{alias}",
                project_id=project,
                detail=detail,
            )
            await promise_mirror(session, project, model, alias)
        await self.follow(key)
        return True

    async def _wanted(self, project: ProjectId, model: str, alias: Alias) -> str | None:
        async with self._database.transaction() as session:
            row = await repository.find_alias(session, project, model, alias)
            if row is None:
                return None
            version = await session.get_one(ModelVersionRow, (project, model, row.version))
        if version.mlflow_version is None:
            raise Unavailable(f"MLflow doesn't have {model}@{row.version} yet; it is tried again")
        return version.mlflow_version


async def _is_promised(session: AsyncSession, key: str) -> bool:
    """Whether the mirror is about to follow anyway, so that a difference is no news."""
    query = select(OutboxRow.id).where(OutboxRow.topic == MIRROR_TOPIC, OutboxRow.key == key).limit(1)
    return await session.scalar(query) is not None


def _name(version: str | None) -> str:
    return "missing" if version is None else f"at version {version}"
