"""Submission: exactly one job for one key, in one transaction, with nothing slow in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.quotas import quota_effect
from steelyard.governance import access
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.governance.ledger.demand import demand_of
from steelyard.governance.secrets.service import require_secrets
from steelyard.hpo.checks import require_searchable
from steelyard.hpo.forecasts import forecast as forecast_search
from steelyard.jobs import repository
from steelyard.jobs.capacity import Capacity
from steelyard.jobs.costs import plan_cost, reserve_job
from steelyard.jobs.entries import enter_job, new_job
from steelyard.jobs.family_rules import most_at_once
from steelyard.jobs.lineage import lineage_of
from steelyard.jobs.pinning import Runnable, pin
from steelyard.jobs.specs import parse_spec
from steelyard.jobs.views import view_of
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import IdempotencyMismatch, InvalidRequest, InvalidSpec, NotSupported
from steelyard.kit.ids import new_id
from steelyard.rlhf.forecasts import forecast as forecast_pipeline
from steelyard.specs.access import Permission
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec, HpoSpec, JobSpec, RetrainSpec, RlhfSpec
from steelyard.specs.views import PlanView
from steelyard.storage.database import Database
from steelyard.storage.tables import IdempotencyRow

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
            spec, dataset = await pin(session, checked, runnable(spec))
            launched, within = _launched(spec)
            await require_secrets(session, checked, spec.secrets)
            await require_secrets(session, checked, launched.secrets, within)
            await Capacity(session, within).require_fit(launched.resources)
            job = new_job(actor.id, checked, spec, dataset, self._clock())
            job.lineage = {**job.lineage, **(further_lineage or {})}
            response = view_of(job, [], None).model_dump_json()
            if not await _claim_key(session, checked, key, digest, job.id, response):
                stored = await repository.find_idempotency(session, checked, key)
                if stored is not None:
                    return await _replay(session, actor, stored, digest)
                raise InvalidRequest("the idempotency key vanished while it was read; send the request again")
            await enter_job(session, actor, job, f"submitted by {actor.id}")
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
            spec, dataset = await pin(session, checked, runnable(parse_spec(body)))
            launched, within = _launched(spec)
            await require_secrets(session, checked, spec.secrets)
            await require_secrets(session, checked, launched.secrets, within)
            capacity = Capacity(session, within)
            fit = await capacity.forecast(launched.resources, spec.priority)
            cost = await plan_cost(session, checked, spec, self._clock)
            demand = demand_of(spec)
            quotas = await quota_effect(
                session, checked, launched.resources.flavors, demand.gpus * most_at_once(spec), self._clock
            )
        return PlanView(
            valid=True,
            spec=spec.model_dump(mode="json"),
            lineage=lineage_of(spec, dataset),
            fits=fit.fits,
            would_start_now=fit.free_now,
            queue_position=fit.queue_position,
            max_gpu_hours=float(demand.amount(Decimal(0)).of("gpu_hours")),
            messages=[
                *fit.messages,
                *(forecast_search(spec) if isinstance(spec, HpoSpec) else []),
                *(forecast_pipeline(spec) if isinstance(spec, RlhfSpec) else []),
                *([cost.refusal] if cost.refusal else []),
            ],
            cost=cost,
            quotas=quotas,
        )


def runnable(spec: JobSpec) -> Runnable:
    """Return a spec that this version can run.

    Raises:
        InvalidSpec: a search that can't work.
        NotSupported: the type is valid but has no workflow yet.
    """
    if isinstance(spec, HpoSpec):
        require_searchable(spec)
    if not isinstance(spec, RetrainSpec):
        return spec
    raise NotSupported(
        f"jobs of type {spec.type} are valid but can't be run by this version; submit its template by itself",
        param="type",
    )


def _launched(spec: Runnable) -> tuple[FineTuneSpec | EvalOnlySpec | RlhfSpec, str]:
    """Return the spec that says what one launch is given, and what stands before its fields' names."""
    return (spec.trial, "trial.") if isinstance(spec, HpoSpec) else (spec, "")


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
