"""Asking for a promotion. One transaction; a workflow carries it on."""

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, IdempotencyMismatch, PermissionDenied
from steelyard.kit.ids import new_id
from steelyard.registry.kinds import refuse_alias
from steelyard.rollouts import repository
from steelyard.rollouts.events import announce
from steelyard.rollouts.people import may_override_freeze
from steelyard.rollouts.rules import policy_of
from steelyard.rollouts.stages import refuse_stage
from steelyard.rollouts.views import promotion_view
from steelyard.specs.access import Permission
from steelyard.specs.promotions import Alias, PromoteRequest, PromotionState, PromotionView
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import PromotionRow

PROMOTION_TOPIC = "reach_promotion"


class PromotionRequestService:
    """Takes requests. What was asked before and is not over is found, not made again."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def request(
        self, actor: Actor, project: str, name: str, request: PromoteRequest, key: str | None = None
    ) -> PromotionView:
        """Ask that an alias point to a version.

        Args:
            key: of idempotency: the same key is answered with the same promotion, whatever became of it.

        Raises:
            NotFound: no such model version.
            Conflict: the alias points there already, or the version was not in the stage before.
            IdempotencyMismatch: the key came before with another request.
            PermissionDenied: only an owner overrides a freeze.
        """
        digest = digest_json({"name": name, **request.model_dump(mode="json")})
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_PROMOTE)
            if request.override_freeze and not await may_override_freeze(session, actor, checked):
                raise PermissionDenied(
                    "only an owner of the organization overrides a freeze", param="override_freeze"
                )
            here = await repository.lock_alias(session, checked, name, request.to)
            row = await self._find_earlier(session, checked, name, request, key, digest)
            if row is None:
                await _require_possible(session, checked, name, request, here.version if here else None)
                row = await self._add(session, actor, checked, name, request, key, digest)
            elif request.override_freeze and row.freeze_override_by is None and row.transition_id is None:
                await self._override(session, actor, row)
            return promotion_view(row, await repository.approvals_of(session, row.id))

    async def _find_earlier(
        self,
        session: AsyncSession,
        project: ProjectId,
        name: str,
        request: PromoteRequest,
        key: str | None,
        digest: str,
    ) -> PromotionRow | None:
        earlier = await repository.promotion_by_key(session, project, key) if key else None
        if earlier is not None and earlier.request_digest != digest:
            raise IdempotencyMismatch(
                "this idempotency key came before with another request; use a new one",
                promotion_id=earlier.id,
            )
        return earlier or await repository.open_promotion(session, project, name, request.version, request.to)

    async def _add(
        self,
        session: AsyncSession,
        actor: Actor,
        project: ProjectId,
        name: str,
        request: PromoteRequest,
        key: str | None,
        digest: str,
    ) -> PromotionRow:
        now = self._clock()
        row = PromotionRow(
            id=new_id("promo"),
            project_id=project,
            model=name,
            version=request.version,
            alias=request.to.value,
            state=PromotionState.CHECKING.value,
            message="the model's files and the gates are being checked",
            reason=request.reason,
            requested_by=actor.id,
            request_id=actor.request_id,
            request_key=key,
            request_digest=digest,
            freeze_override_by=actor.id if request.override_freeze else None,
            evidence={},
            required_approvals=(await policy_of(session, project, request.to)).approvers,
            created_at=now,
            updated_at=now,
        )
        session.add(row)
        await session.flush()
        what = f"{name}@{request.version} to {request.to}"
        await announce(
            session, project, name, "promotion.requested", f"{actor.id} asks to promote {what}",
            data={"promotion": row.id, "version": request.version, "alias": request.to.value},
        )  # fmt: skip
        await audit.record(
            session, actor, "model.promote", "promotion", row.id, project_id=project,
            detail={"model": name, **request.model_dump(mode="json")},
        )  # fmt: skip
        await enqueue(session, PROMOTION_TOPIC, row.id, {})
        return row

    async def _override(self, session: AsyncSession, actor: Actor, row: PromotionRow) -> None:
        row.freeze_override_by = actor.id
        row.updated_at = self._clock()
        await audit.record(
            session, actor, "promotion.override_freeze", "promotion", row.id, project_id=row.project_id
        )
        await enqueue(session, PROMOTION_TOPIC, row.id, {})


async def _require_possible(
    session: AsyncSession, project: ProjectId, name: str, request: PromoteRequest, here: int | None
) -> None:
    version = await repository.find_version(session, project, name, request.version)
    if (refusal := refuse_alias(name, request.version, version.lineage)) is not None:
        raise Conflict(refusal, param="version")
    if here == request.version:
        raise Conflict(f"{request.to} points to {name}@{request.version} already", param="version")
    policy = await policy_of(session, project, request.to)
    before = await repository.reached(session, project, name, request.version)
    refusal = refuse_stage(Alias(request.to), request.version, policy, before, name)
    if refusal is not None:
        raise Conflict(refusal, param="to")
