"""Making a job ready before it asks for a place: base model and rows on disk, and their digests."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.datasets.files import DatasetFileService
from steelyard.datasets.tokenized import Refusal, Tokenized, TokenizedService, Wanted
from steelyard.evals.suite_folders import SuiteFolderService
from steelyard.governance.access import ProjectId
from steelyard.jobs import repository
from steelyard.jobs.events import append_event
from steelyard.jobs.fitting import why_not_in_role
from steelyard.jobs.launching import spec_of
from steelyard.jobs.lifecycle import Folders
from steelyard.jobs.model_names import BUILTIN_PREFIX
from steelyard.jobs.references import ADAPTER_CONFIG, KnownModel, find_model
from steelyard.jobs.specs import launched_block
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidSpec, StorageFull, Unavailable
from steelyard.runtime.files import write_atomically
from steelyard.runtime.manifests import Damage
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.specs.run import DatasetFiles
from steelyard.specs.states import JobState, Reason
from steelyard.specs.tokens import TokenProgress, refuse_share
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow

_BAD_CONFIG_EXIT = 64
_DISK_FULL_REASON = Reason.DISK_FULL.value


@dataclass(frozen=True)
class Prepared:
    """Whether a job is ready. Where it isn't and never will be, why."""

    ready: bool
    reason: str | None = None
    message: str = ""


class PreparationService:
    """Prepares jobs. Doing it again finds what is there already.

    Args:
        models_cache: folder of converted and downloaded base models.
        refuse_folder: says why a model that is named by its folder may not be read, if so.
        folders: where jobs' own models and checkpoints are.
        tokens: has rows tokenized.
        python: the interpreter that has the training libraries.
    """

    def __init__(
        self,
        database: Database,
        files: DatasetFileService,
        models_cache: Path,
        refuse_folder: Callable[[str], str | None],
        suites: SuiteFolderService,
        folders: Folders,
        tokens: TokenizedService,
        python: str = sys.executable,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._files = files
        self._models_cache = models_cache
        self._refuse_folder = refuse_folder
        self._suites = suites
        self._folders = folders
        self._tokens = tokens
        self._python = python
        self._clock = clock

    async def prepare(self, job_id: str) -> Prepared:
        """Make a job ready.

        Raises:
            Unavailable: something didn't answer; try again.
            StorageFull: no room for the files; try again when there is.
        """
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.prepared.get("ready") and _is_there(job.prepared):
                return Prepared(ready=True)
            spec = launched_block(job)
            dataset = await self._dataset_version(session, job)
            project = ProjectId(job.project_id)
            try:
                known = await find_model(session, project, self._folders, _model_name(spec))
                reward = await find_model(session, project, self._folders, _reward_name(spec))
            except InvalidSpec as error:
                return Prepared(False, Reason.MODEL_NOT_FOUND, error.message)
        if why := _why_not_in_roles(spec, known, reward):
            return Prepared(False, Reason.BAD_CONFIG, why)
        prepared: dict[str, Any] = {"ready": True}
        lineage: dict[str, str] = {}
        if dataset is not None:
            if dataset.rows_train == 0 and job.type != "eval_only":
                return Prepared(
                    False, Reason.DATASET_EMPTY, f"{dataset.ref} has no training rows; ingest more"
                )
            prepared["dataset"] = (await self._files.materialise(dataset)).model_dump(mode="json")
        if spec.get("evaluation") is not None:
            folders = await self._suites.materialise(project, spec["evaluation"]["suites"])
            prepared["suites"] = [folder.model_dump(mode="json") for folder in folders]
        if reward is not None:
            refusal = await self._use_reward_model(reward, prepared, lineage)
            if refusal is not None:
                return refusal
        if known is not None:
            refusal = await self._use_known(known, prepared, lineage, adapters=job.type == "eval_only")
            if refusal is not None:
                return refusal
        elif spec.get("model") is not None:
            revision = spec["model"]["revision"] or job.prepared.get("model_revision")
            model = await self._model(spec["model"]["name_or_path"], revision)
            if isinstance(model, Prepared):
                return model
            prepared["model_path"] = model["path"]
            prepared["model_revision"] = model.get("revision")
            lineage["base_model"] = model["digest"]
        tokenized = await self._tokenize(job, prepared)
        if isinstance(tokenized, Refusal) and job.type in FAMILY_TYPES:
            # A trial may have other settings than what all have in common, and says so itself.
            tokenized = None
        if isinstance(tokenized, Refusal):
            return Prepared(False, tokenized.reason, tokenized.message)
        if tokenized is not None:
            prepared["tokens"] = tokenized.files.model_dump(mode="json")
            lineage["tokens"] = tokenized.files.digest
        await self._store(job_id, prepared, lineage, tokenized)
        return Prepared(ready=True)

    async def restore(self, job_id: str) -> None:
        """Make anew what a ready job's next attempt reads and this node lacks: it may have run elsewhere.

        What was fixed stays fixed: a base model comes back at the commit that it was first resolved to. What
        can't be made again is for the attempt to say.

        Raises:
            Unavailable, StorageFull: try again.
        """
        async with self._database.transaction() as session:
            prepared = (await session.get_one(JobRow, job_id)).prepared
        if prepared.get("ready") and not await asyncio.to_thread(_is_there, prepared):
            await self.prepare(job_id)

    async def _tokenize(self, job: JobRow, prepared: dict[str, Any]) -> Tokenized | Refusal | None:
        """Have the rows tokenized before any GPU is asked for. None where the job's own code reads them."""
        spec = spec_of(job) if job.type not in FAMILY_TYPES else _trial_of(job)
        if not isinstance(spec, FineTuneSpec) or spec.method != "sft" or spec.model is None:
            return None
        wanted = Wanted(
            project=ProjectId(job.project_id),
            dataset=DatasetFiles.model_validate(prepared["dataset"]),
            model=Path(prepared["model_path"]),
            model_name=spec.model.name_or_path,
            chat_template=spec.model.chat_template,
            training=spec.training,
        )
        tokenized = await self._tokens.ensure(wanted, partial(self._tell_progress, job.id))
        if isinstance(tokenized, Tokenized):
            # How much is tolerated changes no token: another job may have made this cache.
            refusal = refuse_share(tokenized.summary, spec.training)
            return tokenized if refusal is None else Refusal(Reason.SEQUENCE_TOO_LONG, refusal)
        return tokenized

    async def _tell_progress(self, job_id: str, progress: TokenProgress) -> bool:
        """Show how far it is; answer whether anybody still wants it."""
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            if job.state == JobState.VALIDATING:
                job.status_message = f"tokenizing {progress.done}/{progress.total} shards"
                job.updated_at = self._clock()
            return job.desired != "cancel"

    async def _use_known(
        self, known: KnownModel, prepared: dict[str, Any], lineage: dict[str, str], *, adapters: bool
    ) -> Prepared | None:
        """Use a model that the platform made itself; an adapter gets its base beside it."""
        damage = await asyncio.to_thread(self._pull, known)
        if damage is not None:
            return Prepared(False, Reason.MODEL_DAMAGED, f"{known.name} is damaged: {damage.message}")
        lineage["base_model"] = known.digest
        if not (known.folder / ADAPTER_CONFIG).exists():
            prepared["model_path"] = str(known.folder)
            return None
        if not adapters:
            return Prepared(
                False,
                Reason.BAD_CONFIG,
                f"{known.name} is an adapter; train from its base or from a whole model",
            )
        base = await self._model(known.base_name, known.base_revision)
        if isinstance(base, Prepared):
            return base
        prepared["model_path"], prepared["base_adapter"] = base["path"], str(known.folder)
        lineage["adapter_base"] = base["digest"]
        return None

    async def _use_reward_model(
        self, known: KnownModel, prepared: dict[str, Any], lineage: dict[str, str]
    ) -> Prepared | None:
        """Have the scorer on this node, whole; its digest is part of what the policy is made of."""
        damage = await asyncio.to_thread(self._pull, known)
        if damage is not None:
            told = f"{known.name} is damaged: {damage.message}; train it again and name its new version"
            return Prepared(False, Reason.MODEL_DAMAGED, told)
        prepared["reward_model_path"], lineage["reward_model"] = str(known.folder), known.digest
        return None

    def _pull(self, known: KnownModel) -> Damage | None:
        return self._folders.store.pull_folder(known.folder, known.digest)

    async def _dataset_version(self, session: AsyncSession, job: JobRow) -> catalogue.DatasetVersion | None:
        block = launched_block(job).get("dataset")
        if block is None:
            return None
        # What was deleted since the job was taken stays for it.
        return await catalogue.resolve(session, ProjectId(job.project_id), block["ref"], deleted_too=True)

    async def _store(
        self,
        job_id: str,
        prepared: dict[str, Any],
        lineage: dict[str, str],
        tokenized: Tokenized | None,
    ) -> None:
        async with self._database.transaction() as session:
            job = await repository.lock_job(session, job_id)
            job.prepared = prepared
            job.lineage = {**lineage, **job.lineage}
            job.updated_at = self._clock()
            if tokenized is not None:
                await _tell_tokenized(session, job, tokenized)
            await append_event(
                session, job, "job.prepared", "data and base model are ready", data=dict(lineage)
            )

    async def _model(self, name: str, revision: str | None) -> dict[str, Any] | Prepared:
        """Return where the base model is. A built-in one can't change: it is looked for once."""
        if not name.startswith(BUILTIN_PREFIX):
            return await self._resolve_model(name, revision)
        memo = self._models_cache / "resolved" / f"{digest_json(name)[7:]}.json"
        known = await asyncio.to_thread(_read_memo, memo)
        if known is not None:
            return known
        model = await self._resolve_model(name, revision)
        if isinstance(model, dict):
            await asyncio.to_thread(_write_memo, memo, model)
        return model

    async def _resolve_model(self, name: str, revision: str | None) -> dict[str, Any] | Prepared:
        """Have a process that may import torch make the base model ready; here nothing may."""
        refusal = self._refuse_folder(name)
        if refusal is not None:
            return Prepared(False, Reason.MODEL_NOT_FOUND, refusal)
        arguments = ["-m", "steelyard.trainers.models", "resolve", name, "--cache", str(self._models_cache)]
        if revision is not None:
            arguments += ["--revision", revision]
        process = await asyncio.create_subprocess_exec(
            self._python, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode == 0:
            return json.loads(output)
        if process.returncode == _BAD_CONFIG_EXIT:
            error = json.loads(output)["error"]
            return Prepared(False, error["code"], error["message"])
        tail = errors.decode(errors="replace")[-500:]
        if "No space left" in tail or _DISK_FULL_REASON in tail:
            raise StorageFull(f"no room for the base model below {self._models_cache}; free some")
        raise Unavailable(f"the base model {name!r} could not be made ready: {tail}")


async def _tell_tokenized(session: AsyncSession, job: JobRow, tokenized: Tokenized) -> None:
    found, summary = ("were tokenized before" if tokenized.hit else "are tokenized"), tokenized.summary
    await append_event(
        session,
        job,
        "job.tokenized",
        f"{summary.rows_kept} of {summary.rows_in} rows {found}: {summary.tokens} tokens",
        data={
            "hit": tokenized.hit,
            "key": tokenized.key,
            "digest": tokenized.files.digest,
            **summary.model_dump(),
        },
    )


def _trial_of(job: JobRow) -> FineTuneSpec | None:
    """Return the spec that all trials of a search have in common. The stages of a pipeline differ."""
    trial = job.spec.get("trial")
    return None if trial is None else FineTuneSpec.model_validate(trial, strict=False)


def _model_name(spec: dict[str, Any]) -> str | None:
    return spec["model"]["name_or_path"] if spec.get("model") else None


def _why_not_in_roles(
    spec: dict[str, Any], known: KnownModel | None, reward: KnownModel | None
) -> str | None:
    """Say which model can't play its part, or return None. It may have come since submission.

    What one's own script does with a model is its own affair.
    """
    if reward is not None and (why := why_not_in_role(reward.name, reward.method, scores=True)):
        return why
    if known is None or spec.get("method") == "script":
        return None
    return why_not_in_role(known.name, known.method, scores=False)


def _reward_name(spec: dict[str, Any]) -> str | None:
    return spec["online"]["reward_model"] if spec.get("online") else None


def _is_there(prepared: dict[str, Any]) -> bool:
    """Whether what was made ready before was not cleared away since."""
    paths: list[str] = [prepared["model_path"]] if prepared.get("model_path") else []
    if prepared.get("dataset"):
        files = DatasetFiles.model_validate(prepared["dataset"])
        paths += [*files.train, *files.validation]
    paths += [each["path"] for each in prepared.get("suites", []) if each["path"] is not None]
    paths += [prepared["tokens"]["folder"]] if prepared.get("tokens") else []
    paths += [prepared["reward_model_path"]] if prepared.get("reward_model_path") else []
    paths += [prepared["base_adapter"]] if prepared.get("base_adapter") else []
    return all(Path(path).exists() for path in paths)


def _read_memo(memo: Path) -> dict[str, Any] | None:
    """Return what was resolved before, if the model's folder is still there."""
    try:
        model: dict[str, Any] = json.loads(memo.read_text())
    except (OSError, ValueError):
        return None
    return model if (Path(model["path"]) / MANIFEST_NAME).is_file() else None


def _write_memo(memo: Path, model: dict[str, Any]) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another job is writing the same words
        write_atomically(memo, json.dumps(model).encode())
