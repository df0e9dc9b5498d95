"""Submission: exactly one job for one key, in one transaction, with nothing slow in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.quotas import quota_effect
from steelyard.datasets import catalogue
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.evals.suites import pin_suites
from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.governance.secrets.service import require_secrets
from steelyard.jobs import repository
from steelyard.jobs.capacity import Capacity
from steelyard.jobs.costs import plan_cost, reserve_job
from steelyard.jobs.events import append_event
from steelyard.jobs.fitting import require_roles, require_shape
from steelyard.jobs.lineage import lineage_of
from steelyard.jobs.views import view_of
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import IdempotencyMismatch, InvalidRequest, InvalidSpec, NotSupported
from steelyard.kit.ids import new_id
from steelyard.specs.access import Permission
from steelyard.specs.faults import field_path
from steelyard.specs.job import JOB_SPEC, EvalOnlySpec, FineTuneSpec, JobSpec
from steelyard.specs.states import JobState
from steelyard.specs.views import PlanView
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import IdempotencyRow, JobRow

START_TOPIC = "start_job"
_MAX_KEY_LENGTH = 255


@dataclass(frozen=True)
class Submission:
    """The answer to a submission: the job as it was when it was accepted, as JSON text."""

    job_id: str
    response: str
    replayed: bool


class SubmissionService:
    """Accepts jobs, and says beforehand what accepting one would do."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def submit(
        self,
        actor: Actor,
        project: str,
        body: bytes,
        key: str | None,
        further_lineage: Mapping[str, str] | None = None,
    ) -> Submission:
        """Accept a job, or answer as before where `key` came before with the same body.

        Args:
            further_lineage: what the platform itself knows of the job's origin.

        Raises:
            InvalidSpec: the body breaks the schema, or names a dataset that isn't there; `param` says where.
            IdempotencyMismatch: the key came with another body; `details` has the stored job's id.
            NotSupported: a job type that this version can't run.
            BudgetExceeded: the project's budget doesn't have what the job may use.
            PermissionDenied: the key is of another member's job, and the caller may not read jobs.
        """
        value = _parse_json(body)
        digest = digest_json(value)
        key = _checked_key(key)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_SUBMIT)
            stored = await repository.find_idempotency(session, checked, key)
            if stored is not None:
                return await _replay(session, actor, stored, digest)
            spec = parse_spec(body)
            spec, dataset = await _pin(session, checked, runnable(spec))
            await require_secrets(session, checked, spec.secrets)
            await Capacity(session).require_fit(spec.resources)
            job = self._new_job(actor, checked, spec, dataset)
            job.lineage = {**job.lineage, **(further_lineage or {})}
            response = view_of(job, [], None).model_dump_json()
            if not await _claim_key(session, checked, key, digest, job.id, response):
                stored = await repository.find_idempotency(session, checked, key)
                if stored is not None:
                    return await _replay(session, actor, stored, digest)
                raise InvalidRequest("the idempotency key vanished while it was read; send the request again")
            await _store(session, actor, job)
            await reserve_job(session, job, self._clock())
        return Submission(job.id, response, replayed=False)

    async def plan(self, actor: Actor, project: str, body: bytes) -> PlanView:
        """Say what `submit` would do with this body, and change nothing.

        Raises:
            InvalidSpec: as for `submit`.
        """
        _parse_json(body)
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.JOB_READ)
            spec, dataset = await _pin(session, checked, runnable(parse_spec(body)))
            await require_secrets(session, checked, spec.secrets)
            capacity = Capacity(session)
            fit = await capacity.forecast(spec.resources, spec.priority)
            cost = await plan_cost(session, checked, spec, self._clock)
            gpus = spec.resources.gpus * (spec.distributed.num_nodes if isinstance(spec, FineTuneSpec) else 1)
            quotas = await quota_effect(session, checked, spec.resources.flavors, gpus, self._clock)
        return PlanView(
            valid=True,
            spec=spec.model_dump(mode="json"),
            lineage=lineage_of(spec, dataset),
            fits=fit.fits,
            would_start_now=fit.free_now,
            queue_position=fit.queue_position,
            max_gpu_hours=gpus * spec.limits.max_runtime_seconds / 3600,
            messages=[*fit.messages, *([cost.refusal] if cost.refusal else [])],
            cost=cost,
            quotas=quotas,
        )

    def _new_job(
        self,
        actor: Actor,
        project: ProjectId,
        spec: FineTuneSpec | EvalOnlySpec,
        dataset: DatasetVersion | None,
    ) -> JobRow:
        now = self._clock()
        return JobRow(
            id=new_id("job"),
            project_id=project,
            name=spec.name,
            type=spec.type,
            state=JobState.VALIDATING,
            status_reason=None,
            status_message="accepted; data and base model are being made ready",
            priority=spec.priority,
            spec=spec.model_dump(mode="json"),
            lineage=lineage_of(spec, dataset),
            tags=dict(spec.tags),
            desired="run",
            command_sequence=0,
            run_number=0,
            epoch=0,
            stage="evaluate" if spec.type == "eval_only" else "train",
            attempts_count=0,
            retries_used=0,
            evictions=0,
            running_seconds=0.0,
            progress={},
            metrics={},
            prepared={},
            created_by=actor.id,
            created_at=now,
            updated_at=now,
        )


def parse_spec(body: bytes) -> JobSpec:
    """Parse a job spec.

    Raises:
        InvalidSpec: `param` is the path of the first field at fault, `details` lists them all.
    """
    try:
        return JOB_SPEC.validate_json(body)
    except ValidationError as error:
        value = json.loads(body)
        faults = [
            {"param": ".".join(map(str, field_path(value, item))), "message": item["msg"]}
            for item in error.errors(include_url=False)
        ]
        first = faults[0]
        raise InvalidSpec(
            f"{first['param'] or 'spec'}: {first['message']}"
            + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
            + "; 'steelyard schema' prints what a spec may hold",
            param=first["param"] or None,
            faults=faults,
        ) from error


def runnable(spec: JobSpec) -> FineTuneSpec | EvalOnlySpec:
    """Return a spec that this version can run.

    Raises:
        NotSupported: the type is valid but has no workflow yet.
    """
    if isinstance(spec, FineTuneSpec | EvalOnlySpec):
        return spec
    raise NotSupported(
        f"jobs of type {spec.type} are valid but can't be run by this version; fine_tune and eval_only can",
        param="type",
    )


async def _pin(
    session: AsyncSession, project: ProjectId, spec: FineTuneSpec | EvalOnlySpec
) -> tuple[FineTuneSpec | EvalOnlySpec, DatasetVersion | None]:
    """Fix the versions of dataset and suites, and check that data and models fit what is done with them."""
    if spec.evaluation is not None:
        pinned_block = await pin_suites(session, project, spec.evaluation)
        spec = spec.model_copy(update={"evaluation": pinned_block})
    await require_roles(session, project, spec)
    if spec.dataset is None:
        return spec, None
    dataset = await catalogue.resolve(session, project, spec.dataset.ref, hold=True)
    if spec.dataset.format not in (None, dataset.format):
        raise InvalidSpec(
            f"dataset {dataset.ref} holds {dataset.format}, the job expects {spec.dataset.format};"
            " name another dataset or leave out dataset.format",
            param="dataset.format",
        )
    require_shape(spec, dataset)
    pinned = spec.dataset.model_copy(update={"ref": dataset.ref})
    return spec.model_copy(update={"dataset": pinned}), dataset


async def _claim_key(
    session: AsyncSession, project: ProjectId, key: str, digest: str, job_id: str, response: str
) -> bool:
    """Take the key. A second transaction with the same key waits here until the first has ended."""
    statement = (
        upsert(IdempotencyRow)
        .values(project_id=project, key=key, body_digest=digest, job_id=job_id, response=response)
        .on_conflict_do_nothing()
        .returning(IdempotencyRow.key)
    )
    return await session.scalar(statement) is not None


async def _store(session: AsyncSession, actor: Actor, job: JobRow) -> None:
    columns = {column.key: getattr(job, column.key) for column in JobRow.__table__.columns}
    await session.execute(insert(JobRow).values(**columns))
    await append_event(session, job, "job.submitted", f"submitted by {actor.id}")
    await audit.record(
        session,
        actor,
        "job.submit",
        "job",
        job.id,
        project_id=job.project_id,
        after_digest=job.lineage["config"],
    )
    await enqueue(session, START_TOPIC, job.id, {"run_number": 0})


async def _replay(session: AsyncSession, actor: Actor, stored: IdempotencyRow, digest: str) -> Submission:
    """Answer as before. Keys are the project's, so another member may get here: if he may read jobs."""
    if await repository.creator_of(session, stored.job_id) != actor.id:
        await access.authorize(session, actor, stored.project_id, Permission.JOB_READ)
    if stored.body_digest != digest:
        raise IdempotencyMismatch(
            f"this Idempotency-Key came before with another body and made {stored.job_id};"
            " use a new key for a new job",
            param="Idempotency-Key",
            job_id=stored.job_id,
        )
    return Submission(stored.job_id, stored.response, replayed=True)


def _checked_key(key: str | None) -> str:
    if key is None:
        return new_id("key")
    if not 1 <= len(key) <= _MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {_MAX_KEY_LENGTH} printable characters", param="Idempotency-Key"
        )
    return key


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InvalidSpec(f"the body is not JSON: {error}; send one job spec as a JSON object") from error
    except RecursionError as error:
        raise InvalidSpec("the body is nested too deep; send one job spec as a JSON object") from error
    if _holds_nul(value):
        raise InvalidSpec("the body holds the character NUL (\\u0000); leave it out")
    if not isinstance(value, dict):
        raise InvalidSpec("the body must be one job spec as a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


def _holds_nul(value: Any) -> bool:
    """Whether some text in a JSON value has a NUL, which the database can't store."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, list) and any(_holds_nul(item) for item in value)  # pyright: ignore[reportUnknownVariableType]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
