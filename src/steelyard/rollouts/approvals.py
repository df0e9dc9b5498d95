"""Approvals: what one person says to one promotion, bound to exactly what they saw."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM, Actor
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, InvalidTransition, PermissionDenied, SteelyardError
from steelyard.kit.ids import new_id
from steelyard.kit.paging import Page, page_of
from steelyard.rollouts import repository
from steelyard.rollouts.binding import Binding, what_changed
from steelyard.rollouts.events import announce
from steelyard.rollouts.people import maker_of_token, standing_of
from steelyard.rollouts.policies import SELF_APPROVED, Case, is_own, refuse_approval, stricter
from steelyard.rollouts.requests import PROMOTION_TOPIC
from steelyard.rollouts.rules import parse_policy, policy_of
from steelyard.rollouts.views import promotion_summary, promotion_view
from steelyard.rollouts.weighing import gather
from steelyard.specs.access import Permission
from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import (
    OPEN_STATES,
    Alias,
    DecisionRequest,
    PromotionState,
    PromotionSummary,
    PromotionView,
)
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import ApprovalRow, ModelVersionRow, PromotionRow

Verdict = Literal["approve", "reject"]
_DECIDABLE = frozenset({PromotionState.AWAITING_APPROVAL, PromotionState.AWAITING_THAW})


@dataclass(frozen=True)
class _Answer:
    """What to say when the transaction is committed."""

    view: PromotionView
    refusal: SteelyardError | None = None


class ApprovalService:
    """The inbox, and decisions. A decision that is sent twice is taken once."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def search(
        self,
        actor: Actor,
        project: str,
        *,
        states: tuple[PromotionState, ...],
        model: str | None,
        limit: int,
        after: str | None,
    ) -> Page[PromotionSummary]:
        """Return a page of promotions, newest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.APPROVAL_READ)
            rows = await repository.search_promotions(
                session, checked, states=states, model=model, limit=limit + 1, after=after
            )
            counts = await repository.approval_counts(session, [row.id for row in rows])
        summaries = [promotion_summary(row, counts.get(row.id, 0)) for row in rows]
        return page_of(summaries, limit, [row.id for row in rows])

    async def get(self, actor: Actor, project: str, promotion_id: str) -> PromotionView:
        """Return a promotion whole: what an approver reads.

        Raises:
            NotFound: no such promotion in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.APPROVAL_READ)
            row = await repository.find_promotion(session, checked, promotion_id)
            return promotion_view(row, await repository.approvals_of(session, row.id))

    async def decide(
        self, actor: Actor, project: str, promotion_id: str, verdict: Verdict, request: DecisionRequest
    ) -> PromotionView:
        """Approve or reject. One rejection ends a promotion.

        Raises:
            NotFound: no such promotion in the project.
            PermissionDenied: the policy doesn't take this person's word; the message says why.
            InvalidTransition: the promotion waits for nobody.
            Conflict: what was read is no longer so, or the person has spoken already.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.APPROVAL_DECIDE)
            _, model, alias = await repository.project_of_promotion(session, promotion_id)
            here = await repository.lock_alias(session, checked, model, alias)
            row = await repository.find_promotion(session, checked, promotion_id, lock=True)
            answer = await self._answer_earlier(session, actor, row, verdict, request)
            if answer is None:
                version = await repository.find_version(session, checked, model, row.version)
                gathered = await gather(session, checked, version, alias, here)
                answer = await self._void_if_changed(session, row, gathered.binding)
                if answer is None:
                    await self._take(session, actor, checked, row, version, verdict, request)
                    answer = _Answer(await _view(session, row))
        if answer.refusal is not None:
            raise answer.refusal
        return answer.view

    async def withdraw(self, actor: Actor, project: str, promotion_id: str) -> PromotionView:
        """End a promotion that is not wanted any more.

        Raises:
            NotFound: no such promotion in the project.
            InvalidTransition: it is over.
            PermissionDenied: somebody else asked for it.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_PROMOTE)
            row = await repository.find_promotion(session, checked, promotion_id, lock=True)
            if row.requested_by != actor.id:
                raise PermissionDenied(f"{row.requested_by} asked for it; an approver can reject it")
            if row.state not in OPEN_STATES:
                raise InvalidTransition(f"the promotion is over: it is {row.state}")
            await self._end(session, row, PromotionState.WITHDRAWN, f"withdrawn by {actor.id}")
            await audit.record(session, actor, "promotion.withdraw", "promotion", row.id, project_id=checked)
            return await _view(session, row)

    async def _answer_earlier(
        self,
        session: AsyncSession,
        actor: Actor,
        row: PromotionRow,
        verdict: Verdict,
        request: DecisionRequest,
    ) -> _Answer | None:
        """Answer what was said before, or what can't be said now."""
        for earlier in await repository.approvals_of(session, row.id):
            if earlier.approver != actor.id:
                continue
            if (earlier.verdict, earlier.binding) == (verdict, request.binding):
                return _Answer(await _view(session, row))
            raise Conflict(f"{actor.id} has said {earlier.verdict!r} to this promotion already")
        if row.state not in _DECIDABLE:
            raise InvalidTransition(f"the promotion waits for nobody: it is {row.state}; {row.message}")
        if row.expires_at is not None and self._clock() >= row.expires_at:
            raise InvalidTransition("the promotion has expired; ask for it again")
        if request.binding != row.binding:
            raise Conflict(
                "this is not what the promotion is bound to now; read it again with "
                f"'steelyard approvals show {row.id}'",
                param="binding",
            )
        return None

    async def _void_if_changed(
        self, session: AsyncSession, row: PromotionRow, binding: Binding
    ) -> _Answer | None:
        if binding.digest() == row.binding:
            return None
        changed = what_changed(Binding(**row.bound or {}), binding)
        message = f"void: {changed} changed since the gates were judged; ask for the promotion again"
        await self._end(session, row, PromotionState.VOID, message)
        await audit.record(
            session, SYSTEM, "promotion.void", "promotion", row.id,
            project_id=row.project_id, detail={"message": message},
        )  # fmt: skip
        return _Answer(await _view(session, row), Conflict(message))

    async def _take(
        self,
        session: AsyncSession,
        actor: Actor,
        project: ProjectId,
        row: PromotionRow,
        version: ModelVersionRow,
        verdict: Verdict,
        request: DecisionRequest,
    ) -> None:
        policy = await _policy(session, project, row)
        case = Case(row.requested_by, await repository.trainer_of(session, version), policy)
        approver = await standing_of(session, project, actor.id)
        if actor.kind != "user":
            raise PermissionDenied("only people approve; a service account or a job can't")
        refusal = refuse_approval(case, approver)
        # Whoever asked may take their own wish back, but not wave it through.
        if refusal is not None and not (verdict == "reject" and is_own(case, actor.id)):
            raise PermissionDenied(refusal)
        own = is_own(case, actor.id)
        approval = ApprovalRow(
            id=new_id("appr"),
            project_id=project,
            promotion_id=row.id,
            approver=actor.id,
            verdict=verdict,
            binding=request.binding,
            reason=request.reason,
            roles=sorted(approver.roles),
            notes=await _notes(session, actor, verdict, own=own),
            request_id=actor.request_id,
        )
        session.add(approval)
        await audit.record(
            session, actor, f"promotion.{verdict}", "promotion", row.id,
            project_id=project, after_digest=request.binding,
            detail={"approval": approval.id, "reason": request.reason, "notes": approval.notes},
        )  # fmt: skip
        if verdict == "reject":
            await self._end(
                session, row, PromotionState.REJECTED, f"rejected by {actor.id}: {request.reason}"
            )
            return
        await announce(
            session, project, row.model, "promotion.approved",
            f"{actor.id} approves {row.model}@{row.version} to {row.alias}",
            data={"promotion": row.id, "approval": approval.id, "binding": request.binding},
        )  # fmt: skip
        await enqueue(session, PROMOTION_TOPIC, row.id, {})

    async def _end(
        self, session: AsyncSession, row: PromotionRow, state: PromotionState, message: str
    ) -> None:
        row.state, row.message, row.wake_at = state.value, message, None
        row.updated_at = self._clock()
        await session.flush()
        await announce(
            session, ProjectId(row.project_id), row.model, f"promotion.{state}",
            f"{row.model}@{row.version} to {row.alias}: {message}", level="warn",
            data={"promotion": row.id, "version": row.version, "alias": row.alias, "state": row.state},
        )  # fmt: skip
        await enqueue(session, PROMOTION_TOPIC, row.id, {})


async def _notes(session: AsyncSession, actor: Actor, verdict: Verdict, *, own: bool) -> list[str]:
    """Return what an auditor should know: approving one's own, and a token that somebody else made."""
    notes = [SELF_APPROVED] if own and verdict == "approve" else []
    maker = await maker_of_token(session, actor)
    return notes if maker is None else [*notes, f"with a token that {maker} made"]


async def _policy(session: AsyncSession, project: ProjectId, row: PromotionRow) -> ApprovalPolicy:
    now = await policy_of(session, project, Alias(row.alias))
    return stricter(now, parse_policy(row.policy)) if row.policy else now


async def _view(session: AsyncSession, row: PromotionRow) -> PromotionView:
    await session.flush()
    return promotion_view(row, await repository.approvals_of(session, row.id))
