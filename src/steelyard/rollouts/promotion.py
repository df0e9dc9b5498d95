"""A promotion after it was asked for: checked once, then settled as often as something changes.

The workflow calls `check` and `settle` in turn; both may be called any number of times, by any number of
workers, and die at any line. What they find is in the database, what they do is one transaction.
"""

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.evals.comparing import Pairs
from steelyard.evals.samples import SampleReader
from steelyard.governance import audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound
from steelyard.kit.ids import new_id
from steelyard.registry.model_files import model_files
from steelyard.rollouts import repository
from steelyard.rollouts.binding import Binding, what_changed
from steelyard.rollouts.events import announce
from steelyard.rollouts.mirror import promise_mirror
from steelyard.rollouts.people import standing_of
from steelyard.rollouts.policies import Case, refuse_approval, stricter
from steelyard.rollouts.requests import PROMOTION_TOPIC
from steelyard.rollouts.rules import frozen, parse_policy, policy_of
from steelyard.rollouts.settlement import Facts, Step, next_step
from steelyard.rollouts.stages import refuse_stage
from steelyard.rollouts.weighing import Gathered, gather, paired_metrics, weigh
from steelyard.specs.gates import Judgement, Verdict
from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import OPEN_STATES, Alias, PromotionState
from steelyard.storage.database import Database
from steelyard.storage.outbox import enqueue
from steelyard.storage.tables import AliasRow, ApprovalRow, ModelVersionRow, PromotionRow, TransitionRow

_OUTCOMES = {
    Verdict.FAIL: PromotionState.GATE_FAILED,
    Verdict.NOT_ENOUGH_EVIDENCE: PromotionState.NOT_ENOUGH_EVIDENCE,
}


@dataclass(frozen=True)
class Standing:
    """How a promotion stands. `wake_at`: when to look again, if nobody says anything before."""

    state: PromotionState
    wake_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in OPEN_STATES


@dataclass(frozen=True)
class _Look:
    """All that was read under the locks."""

    row: PromotionRow
    version: ModelVersionRow
    here: AliasRow | None
    policy: ApprovalPolicy
    good: list[ApprovalRow]
    facts: Facts


class PromotionService:
    """Carries promotions on. For the platform's own processes: it asks no permission."""

    def __init__(
        self,
        database: Database,
        clock: Clock = utc_now,
        samples: SampleReader | None = None,
        objects: Path | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._samples = samples
        self._objects = objects

    async def check(self, promotion_id: str) -> Standing:
        """Verify the model's files, gather the evidence, judge the gates, and write down what they say.

        Raises:
            NotFound: no such promotion.
            BucketUnavailable: the files can't be read now; try again.
        """
        while True:
            async with self._database.transaction() as session:
                project, model, alias = await repository.project_of_promotion(session, promotion_id)
                row = await repository.find_promotion(session, project, promotion_id)
                version = await repository.find_version(session, project, model, row.version)
                here = await repository.find_alias(session, project, model, alias)
                gathered = await gather(session, project, version, alias, here)
            if row.state != PromotionState.CHECKING:
                return _standing(row)
            damage = await asyncio.to_thread(self._damage, version)
            judgement = await asyncio.to_thread(self._weigh, gathered)
            async with self._database.transaction() as session:
                here = await repository.lock_alias(session, project, model, alias)
                row = await repository.find_promotion(session, project, promotion_id, lock=True)
                if row.state != PromotionState.CHECKING:
                    return _standing(row)
                version = await repository.find_version(session, project, model, row.version)
                if (await gather(session, project, version, alias, here)).binding != gathered.binding:
                    continue
                if damage is not None:
                    await self._end(session, row, PromotionState.VOID, damage)
                else:
                    await self._judge(session, row, gathered, judgement, here)
                return _standing(row)

    async def settle(self, promotion_id: str) -> Standing:
        """Do what the rules say now: wait, end it, or move the alias.

        Raises:
            NotFound: no such promotion.
        """
        async with self._database.transaction() as session:
            project, model, alias = await repository.project_of_promotion(session, promotion_id)
            look = await self._look(session, project, model, alias, promotion_id)
            step = next_step(look.facts)
            if not step.ready:
                await self._take(session, look.row, step)
                return _standing(look.row)
        damage = await asyncio.to_thread(self._damage, look.version)
        async with self._database.transaction() as session:
            look = await self._look(session, project, model, alias, promotion_id)
            step = next_step(look.facts)
            if step.ready and damage is not None:
                step = Step(PromotionState.VOID, damage)
            if step.ready:
                await self._move(session, project, alias, look)
            else:
                await self._take(session, look.row, step)
            return _standing(look.row)

    def _damage(self, version: ModelVersionRow) -> str | None:
        """Say what is wrong with a model's files, or return None. Reads every byte."""
        damage = model_files(version, self._objects).check()
        if damage is None:
            return None
        return f"void: the model's files are not what was registered ({damage.message})"

    def _weigh(self, gathered: Gathered) -> Judgement:
        """Judge, with the samples that both versions have in common. Blocking."""
        pairs: dict[str, Pairs] = {}
        for name, (mine, theirs) in paired_metrics(gathered).items() if self._samples else ():
            # Figures of samples that are gone are compared as of independent ones, which asks for more.
            with contextlib.suppress(NotFound):
                found = self._samples.pairs(mine, theirs) if self._samples else None
                pairs |= {name: found} if found is not None else {}
        return weigh(gathered, pairs)

    async def _judge(
        self,
        session: AsyncSession,
        row: PromotionRow,
        gathered: Gathered,
        judgement: Judgement,
        here: AliasRow | None,
    ) -> None:
        """Write down what the gates say, and what approvals are bound to from now on."""
        project, alias = ProjectId(row.project_id), Alias(row.alias)
        policy = await policy_of(session, project, alias)
        binding = gathered.binding
        row.from_version = here.version if here else None
        row.alias_sequence = binding.alias_sequence
        row.model_digest = binding.model_digest
        row.evidence = dict(binding.evidence)
        row.bound = asdict(binding)
        row.binding = binding.digest()
        row.judgement = judgement.model_dump(mode="json")
        row.policy = policy.model_dump(mode="json")
        row.required_approvals = policy.approvers
        await audit.record(
            session, SYSTEM, "promotion.judge", "promotion", row.id, project_id=project,
            after_digest=row.binding, detail={"verdict": judgement.verdict, "reasons": judgement.reasons},
        )  # fmt: skip
        if judgement.verdict is not Verdict.PASS:
            await self._end(session, row, _OUTCOMES[judgement.verdict], _refusal(row, judgement))
            return
        row.expires_at = self._clock() + timedelta(seconds=policy.expires_after_seconds)
        row.state = PromotionState.AWAITING_APPROVAL
        row.message = f"passed {len(judgement.gates)} gates; waits for {policy.approvers} approvals"
        row.wake_at = None
        row.updated_at = self._clock()
        if policy.approvers:
            await self._tell(session, row, "promotion.awaiting_approval")

    async def _look(
        self, session: AsyncSession, project: ProjectId, model: str, alias: Alias, promotion_id: str
    ) -> _Look:
        """Take the locks, the alias's first, and read everything that decides."""
        here = await repository.lock_alias(session, project, model, alias)
        row = await repository.find_promotion(session, project, promotion_id, lock=True)
        version = await repository.find_version(session, project, model, row.version)
        gathered = await gather(session, project, version, alias, here)
        policy = await policy_of(session, project, alias)
        if row.policy is not None:
            policy = stricter(policy, parse_policy(row.policy))
        good, lost = await _count(session, project, row, version, policy)
        now = self._clock()
        freeze = None if row.freeze_override_by else await frozen(session, project, alias, now)
        reached = await repository.reached(session, project, model, row.version)
        bound = Binding(**row.bound) if row.bound else gathered.binding
        facts = Facts(
            now=now,
            state=PromotionState(row.state),
            message=row.message,
            expires_at=row.expires_at or now,
            bound_to=row.binding or "",
            binding_now=gathered.binding.digest(),
            changed=what_changed(bound, gathered.binding),
            stage_refusal=refuse_stage(alias, row.version, policy, reached, model),
            approvals=[each.approver for each in good],
            lost=lost,
            required=policy.approvers,
            frozen_until=freeze[0] if freeze else None,
            frozen_because=freeze[1] if freeze else "",
        )
        return _Look(row, version, here, policy, good, facts)

    async def _move(self, session: AsyncSession, project: ProjectId, alias: Alias, look: _Look) -> None:
        """Move the alias. Locks are held, the rules have just said yes, and the database checks again."""
        row, here = look.row, look.here
        row.required_approvals = look.policy.approvers
        await session.flush()
        transition = TransitionRow(
            id=new_id("move"),
            project_id=project,
            model=row.model,
            alias=alias.value,
            sequence=(here.sequence if here else 0) + 1,
            kind="promotion",
            from_version=here.version if here else None,
            to_version=row.version,
            actor=row.requested_by,
            request_id=row.request_id,
            reason=row.reason,
            model_digest=look.version.manifest_digest,
            evidence=row.evidence,
            judgement=row.judgement,
            approvals=[each.id for each in look.good],
            promotion_id=row.id,
            notes=_notes(row, look.good),
        )
        await repository.append_transition(session, transition)
        row.transition_id = transition.id
        await announce_move(session, transition)
        await audit.record(
            session, SYSTEM, "alias.move", "model", f"{row.model}@{alias}", project_id=project,
            after_digest=transition.model_digest,
            detail={
                "promotion": row.id, "transition": transition.id, "from": transition.from_version,
                "to": row.version, "requested_by": row.requested_by, "evidence": row.evidence,
                "approvals": transition.approvals, "notes": transition.notes,
            },
        )  # fmt: skip
        await self._end(session, row, PromotionState.PROMOTED, f"{alias} points to {row.model}@{row.version}")
        await promise_mirror(session, project, row.model, alias)
        await wake_open(session, project, row.model, alias)

    async def _take(self, session: AsyncSession, row: PromotionRow, step: Step) -> None:
        """Write down what the rules say where the alias doesn't move."""
        if step.state not in OPEN_STATES and row.state in OPEN_STATES:
            await self._end(session, row, step.state, step.message)
            return
        if (row.state, row.message, row.wake_at) == (step.state, step.message, step.wake_at):
            return
        thawing = step.state is PromotionState.AWAITING_THAW and row.state != step.state
        row.state, row.message, row.wake_at = step.state.value, step.message, step.wake_at
        row.updated_at = self._clock()
        if thawing:
            await self._tell(session, row, "promotion.awaiting_thaw")

    async def _end(
        self, session: AsyncSession, row: PromotionRow, state: PromotionState, message: str
    ) -> None:
        row.state, row.message, row.wake_at = state.value, message, None
        row.updated_at = self._clock()
        await self._tell(session, row, f"promotion.{state}")
        if state is not PromotionState.PROMOTED:
            await audit.record(
                session, SYSTEM, f"promotion.{state}", "promotion", row.id,
                project_id=row.project_id, detail={"message": message},
            )  # fmt: skip

    async def _tell(self, session: AsyncSession, row: PromotionRow, type_: str) -> None:
        await session.flush()
        await announce(
            session,
            ProjectId(row.project_id),
            row.model,
            type_,
            f"{row.model}@{row.version} to {row.alias}: {row.message}",
            level="info" if row.state in OPEN_STATES or row.state == PromotionState.PROMOTED else "warn",
            data={
                "promotion": row.id,
                "version": row.version,
                "alias": row.alias,
                "state": row.state,
                "binding": row.binding,
                "judgement": row.judgement,
            },
        )


async def announce_move(session: AsyncSession, transition: TransitionRow) -> None:
    """Write the event of a move."""
    before = f" (was {transition.from_version})" if transition.from_version else ""
    await announce(
        session,
        ProjectId(transition.project_id),
        transition.model,
        "alias.moved",
        f"{transition.alias} points to {transition.model}@{transition.to_version}{before}, "
        f"by {transition.kind}",
        data={
            "transition": transition.id,
            "alias": transition.alias,
            "kind": transition.kind,
            "from": transition.from_version,
            "to": transition.to_version,
            "model_digest": transition.model_digest,
            "actor": transition.actor,
        },
    )


async def wake_open(session: AsyncSession, project: ProjectId, model: str, alias: Alias) -> None:
    """Let open promotions to an alias look at what it points to now."""
    for promotion_id in await repository.open_ids(session, project, model, alias):
        await enqueue(session, PROMOTION_TOPIC, promotion_id, {})


async def _count(
    session: AsyncSession,
    project: ProjectId,
    row: PromotionRow,
    version: ModelVersionRow,
    policy: ApprovalPolicy,
) -> tuple[list[ApprovalRow], list[str]]:
    """Return the approvals that count now, and why others don't any more."""
    case = Case(row.requested_by, await repository.trainer_of(session, version), policy)
    good: list[ApprovalRow] = []
    lost: list[str] = []
    for approval in await repository.approvals_of(session, row.id):
        if approval.verdict != "approve" or approval.binding != row.binding:
            continue
        approver = await standing_of(session, project, approval.approver)
        refusal = refuse_approval(case, approver)
        if refusal is None:
            good.append(approval)
        else:
            lost.append(f"the approval of {approval.approver} doesn't count: {refusal}")
    return good, lost


def _notes(row: PromotionRow, approvals: list[ApprovalRow]) -> list[str]:
    notes = [f"{each.approver}: {note}" for each in approvals for note in each.notes]
    if row.freeze_override_by:
        notes.append(f"{row.freeze_override_by} overrode the freeze windows")
    return notes


def _refusal(row: PromotionRow, judgement: Judgement) -> str:
    """Say why the gates are not passed, and what to do."""
    reasons = "; ".join(judgement.reasons)
    if judgement.verdict is Verdict.FAIL:
        return f"{reasons}. Another version may pass; the gates: 'steelyard gates list --to {row.alias}'"
    return (
        f"{reasons}. Evaluate {row.model}@{row.version} with an eval_only job of the suites named, "
        "on as many samples as they need, then ask again"
    )


def _standing(row: PromotionRow) -> Standing:
    return Standing(PromotionState(row.state), row.wake_at)
