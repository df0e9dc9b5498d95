"""MLflow's registry: a mirror of ours. What somebody writes there directly is put right, and reported."""

from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM
from steelyard.kit.errors import SteelyardError, Unavailable
from steelyard.registry.mlflow import MirroredModel, Mlflow, MlflowRefused
from steelyard.rollouts import repository
from steelyard.rollouts.events import announce
from steelyard.rollouts.mirror_faults import Fault, WantedModel, faults_of, strangers
from steelyard.rollouts.mirror_wants import MIRROR_TOPIC, RESTORE_TOPIC, read_all_wanted, read_wanted
from steelyard.rollouts.version_mirror import VersionMirror
from steelyard.specs.promotions import Alias
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import ModelRow, ModelVersionRow

_log = structlog.get_logger()


async def promise_mirror(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> None:
    """Promise that MLflow's alias will follow ours."""
    await enqueue(session, MIRROR_TOPIC, f"{project}/{model}/{alias}", {})


class RegistryMirror:
    """Keeps MLflow's registry as ours is. Any number may be at work: each ends with what is true."""

    def __init__(self, database: Database, mlflow: Mlflow, objects: Path | None = None) -> None:
        self._database = database
        self._mlflow = mlflow
        self._versions = VersionMirror(database, mlflow, objects)

    async def follow(self, key: str) -> None:
        """Make one alias in MLflow point to where ours points now.

        After writing it looks again, so that of two writers the one with the older value puts it right.

        Args:
            key: `project/model/alias`.

        Raises:
            Unavailable: MLflow doesn't answer, or doesn't have the version yet; try again.
        """
        project, model, alias = key.split("/")
        wanted = await self._number_of(ProjectId(project), model, Alias(alias))
        written = None
        while written is None or written[0] != wanted:
            await self._mlflow.set_alias(f"{project}.{model}", alias, wanted)
            written = (wanted,)
            wanted = await self._number_of(ProjectId(project), model, Alias(alias))

    async def restore(self, key: str) -> None:
        """Make a whole model in MLflow as ours is: versions, their tags and files, then aliases.

        A version that can't be restored, as where our own files are damaged, holds up no other.

        Args:
            key: `project/model`.

        Raises:
            SteelyardError: MLflow doesn't answer, or something is left to do; try again.
        """
        project, _, model = key.partition("/")
        checked, left = ProjectId(project), None
        for number in sorted((await self._wanted(checked, model)).versions):
            try:
                await self._versions.ensure(checked, model, number)
            except Unavailable:
                raise
            except SteelyardError as error:
                left = error
        await self._remove_strangers(checked, model)
        for alias in (await self._wanted(checked, model)).aliases.keys() | {each.value for each in Alias}:
            try:
                await self.follow(f"{key}/{alias}")
            except MlflowRefused as error:
                left = left or error
        if left is not None:
            raise left

    async def reconcile(self) -> int:
        """Compare all models with MLflow; report what differs and promise to put it right.

        Any number may do so at once: what is found twice is reported once. Return how much this one reported.

        Raises:
            Unavailable: MLflow doesn't answer.
        """
        async with self._database.transaction() as session:
            wanted = await read_all_wanted(session)
        if not any(each.versions for each in wanted.values()):
            return 0
        there = await self._mlflow.registry()
        reported = 0
        for (project, model), each in wanted.items():
            if faults_of(model, each, there.get(f"{project}.{model}")):
                reported += await self._look_again(project, model)
        return reported

    async def _look_again(self, project: ProjectId, model: str) -> int:
        """Look at one model closely, and report what is wrong with it; return how much."""
        wanted = await self._wanted(project, model)
        found = await self._mlflow.registered(f"{project}.{model}")
        if found is not None:
            found = await self._with_hidden(f"{project}.{model}", wanted, found)
        faults = faults_of(model, wanted, found)
        return len(faults) if faults and await self._report(project, model, wanted, faults) else 0

    async def _with_hidden(self, name: str, wanted: WantedModel, found: MirroredModel) -> MirroredModel:
        """Add versions that are there and that MLflow's searches leave out."""
        missing = {each.number for each in wanted.versions.values()} - found.versions.keys()
        seen = [await self._mlflow.version(name, number) for number in sorted(missing)]
        hidden = {each.number: each for each in seen if each is not None}
        return MirroredModel(found.aliases, {**found.versions, **hidden})

    async def _report(self, project: ProjectId, model: str, wanted: WantedModel, faults: list[Fault]) -> bool:
        """Write down faults with the promise to put them right, in one transaction.

        False where anything happened to the model since `wanted` was read, as that another reported the same:
        the next round sees what is left then.
        """
        async with self._database.transaction() as session:
            row = await session.get_one(ModelRow, (project, model), with_for_update=True)
            now = await read_wanted(session, project, model)
            if now != wanted or now.under_way:
                return False
            row.mirror_repairs += 1
            for fault in faults:
                detail = dict(fault.detail)
                await announce(session, project, model, fault.type_, fault.message, level="warn", data=detail)
                await audit.record(
                    session,
                    SYSTEM,
                    fault.type_.removesuffix("d"),
                    "model",
                    fault.subject,
                    project_id=project,
                    detail=detail,
                )
            await enqueue(session, RESTORE_TOPIC, f"{project}/{model}", {})
        _log.warning("a model was changed in MLflow", model=model, faults=[each.message for each in faults])
        return True

    async def _remove_strangers(self, project: ProjectId, model: str) -> None:
        found = await self._mlflow.registered(f"{project}.{model}")
        # Read after MLflow was asked: what was registered meanwhile is known.
        wanted = await self._wanted(project, model)
        for each in strangers(wanted, found) if found is not None else []:
            await self._mlflow.remove_version(f"{project}.{model}", each.number)

    async def _wanted(self, project: ProjectId, model: str) -> WantedModel:
        async with self._database.transaction() as session:
            return await read_wanted(session, project, model)

    async def _number_of(self, project: ProjectId, model: str, alias: Alias) -> str | None:
        async with self._database.transaction() as session:
            row = await repository.find_alias(session, project, model, alias)
            if row is None:
                return None
            version = await session.get_one(ModelVersionRow, (project, model, row.version))
        if version.mlflow_version is None:
            raise Unavailable(f"MLflow doesn't have {model}@{row.version} yet; it is tried again")
        return version.mlflow_version
