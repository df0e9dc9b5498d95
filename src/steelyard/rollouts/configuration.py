"""Setting the rules: gates, approval policies, freeze windows; for a project, or by an owner for all."""

from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, NotFound
from steelyard.kit.ids import new_id
from steelyard.rollouts import rules
from steelyard.rollouts.freezes import frozen_until
from steelyard.rollouts.scopes import CheckedScope, Scope, authorize_scope
from steelyard.specs.access import Permission
from steelyard.specs.policies import (
    ApprovalPolicy,
    FreezeRequest,
    FreezeView,
    GateRequest,
    GateView,
    PolicyView,
)
from steelyard.specs.promotions import Alias
from steelyard.storage.database import Database
from steelyard.storage.tables import ApprovalPolicyRow, FreezeRow, GateRow

_Scoped = type[GateRow] | type[ApprovalPolicyRow] | type[FreezeRow]


class ConfigurationService:
    """Sets what promotions must keep to. Every change is audited with the digests of before and after."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def gates(self, actor: Actor, project: str, alias: Alias | None) -> list[GateView]:
        """Return the gates of a project, its organization's among them."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            found: list[GateView] = []
            for each in [alias] if alias else list(Alias):
                found += [_gate_view(row) for row in await rules.gates_of(session, checked, each)]
            return found

    async def set_gate(self, actor: Actor, scope: Scope, request: GateRequest) -> GateView:
        """Put a gate before an alias. The same gate again changes nothing."""
        gate = request.gate.model_dump(mode="json", exclude_none=True)
        digest = digest_json(gate)
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            row = await session.scalar(
                insert(GateRow)
                .values(
                    id=new_id("gate"),
                    project_id=checked.project_id,
                    organization_id=checked.organization_id,
                    alias=request.alias.value,
                    gate=gate,
                    digest=digest,
                    created_by=actor.id,
                    created_at=self._clock(),
                )
                .on_conflict_do_nothing()
                .returning(GateRow)
            )
            if row is None:
                there = select(GateRow).where(
                    _is_of(GateRow, checked), GateRow.alias == request.alias, GateRow.digest == digest
                )
                return _gate_view((await session.scalars(there)).one())
            await _record(
                session, actor, checked, "gate.set", row.id, None, {"alias": row.alias, "gate": gate}
            )
            return _gate_view(row)

    async def remove_gate(self, actor: Actor, scope: Scope, gate_id: str) -> None:
        """Take a gate away. A project can't take its organization's.

        Raises:
            NotFound: the scope has no such gate.
        """
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            row = await session.scalar(
                delete(GateRow).where(_is_of(GateRow, checked), GateRow.id == gate_id).returning(GateRow)
            )
            if row is None:
                raise _missing("gate", gate_id, scope, "steelyard gates list")
            detail = {"alias": row.alias, "gate": row.gate}
            await _record(session, actor, checked, "gate.remove", gate_id, detail, None)

    async def policies(self, actor: Actor, project: str) -> list[PolicyView]:
        """Return the policy of each alias, and where it comes from."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            return [
                _policy_view(alias, await rules.policy_layers(session, checked, alias)) for alias in Alias
            ]

    async def set_policy(
        self, actor: Actor, scope: Scope, alias: Alias, policy: ApprovalPolicy
    ) -> ApprovalPolicy:
        """Say who must agree before an alias moves.

        A project's policy holds as far as it is stricter than its organization's.
        """
        stored = policy.model_dump(mode="json")
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            row = await session.scalar(
                select(ApprovalPolicyRow)
                .where(_is_of(ApprovalPolicyRow, checked), ApprovalPolicyRow.alias == alias)
                .with_for_update()
            )
            before = row.policy if row else None
            content: dict[str, Any] = {
                "policy": stored,
                "updated_by": actor.id,
                "updated_at": self._clock(),
            }
            if row is None:
                values = {"id": new_id("policy"), "alias": alias.value, **content}
                values |= {"project_id": checked.project_id, "organization_id": checked.organization_id}
                made = await session.scalar(
                    insert(ApprovalPolicyRow)
                    .values(values)
                    .on_conflict_do_nothing()
                    .returning(ApprovalPolicyRow.id)
                )
                if made is None:
                    raise Conflict("somebody else has just set this policy; look at it and set it again")
            else:
                row.policy, row.updated_by, row.updated_at = stored, actor.id, self._clock()
            await _record(session, actor, checked, "policy.set", alias.value, before, stored)
            return policy

    async def remove_policy(self, actor: Actor, scope: Scope, alias: Alias) -> None:
        """Forget what was set for an alias: the organization's holds again, or the default.

        Raises:
            NotFound: nothing was set.
        """
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            gone = await session.scalar(
                delete(ApprovalPolicyRow)
                .where(_is_of(ApprovalPolicyRow, checked), ApprovalPolicyRow.alias == alias)
                .returning(ApprovalPolicyRow.policy)
            )
            if gone is None:
                raise _missing("policy for", alias.value, scope, "steelyard policies list")
            await _record(session, actor, checked, "policy.remove", alias.value, gone, None)

    async def freezes(self, actor: Actor, project: str) -> list[FreezeView]:
        """Return the freeze windows of a project, its organization's among them."""
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            return [self._freeze_view(row) for row in await rules.freezes_of(session, checked)]

    async def add_freeze(self, actor: Actor, scope: Scope, request: FreezeRequest) -> FreezeView:
        """Let aliases not be promoted for a time."""
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            row = FreezeRow(
                id=new_id("freeze"),
                project_id=checked.project_id,
                organization_id=checked.organization_id,
                aliases=[alias.value for alias in request.aliases],
                window_spec=request.window.model_dump(mode="json"),
                reason=request.reason,
                created_by=actor.id,
                created_at=self._clock(),
            )
            session.add(row)
            after = request.model_dump(mode="json")
            await _record(session, actor, checked, "freeze.add", row.id, None, after)
            return self._freeze_view(row)

    async def remove_freeze(self, actor: Actor, scope: Scope, freeze_id: str) -> None:
        """Take a freeze window away.

        Raises:
            NotFound: the scope has no such window.
        """
        async with self._database.transaction() as session:
            checked = await authorize_scope(session, actor, scope, Permission.GATE_WRITE)
            row = await session.scalar(
                delete(FreezeRow)
                .where(_is_of(FreezeRow, checked), FreezeRow.id == freeze_id)
                .returning(FreezeRow)
            )
            if row is None:
                raise _missing("freeze window", freeze_id, scope, "steelyard freezes list")
            before = {"aliases": row.aliases, "window": row.window_spec, "reason": row.reason}
            await _record(session, actor, checked, "freeze.remove", freeze_id, before, None)

    def _freeze_view(self, row: FreezeRow) -> FreezeView:
        window = rules.parse_window(row.window_spec)
        until = frozen_until(window, self._clock())
        return FreezeView(
            id=row.id,
            scope="project" if row.project_id is not None else "organization",
            aliases=[Alias(alias) for alias in row.aliases],
            window=window,
            reason=row.reason,
            created_by=row.created_by,
            created_at=row.created_at,
            active=until is not None,
            until=until,
        )


def _is_of(table: _Scoped, scope: CheckedScope) -> ColumnElement[bool]:
    if scope.project_id is not None:
        return table.project_id == scope.project_id
    return table.organization_id == scope.organization_id


def _missing(what: str, name: str, scope: Scope, command: str) -> NotFound:
    return NotFound(f"the {scope.word} {scope.name!r} has no {what} {name}; '{command}' shows them")


async def _record(
    session: AsyncSession,
    actor: Actor,
    scope: CheckedScope,
    verb: str,
    object_id: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    await session.flush()
    await audit.record(
        session,
        actor,
        verb,
        verb.partition(".")[0],
        object_id,
        project_id=scope.project_id,
        before_digest=None if before is None else digest_json(before),
        after_digest=None if after is None else digest_json(after),
        detail={"before": before, "after": after, "organization": scope.organization_id},
    )


def _gate_view(row: GateRow) -> GateView:
    return GateView(
        id=row.id,
        scope="project" if row.project_id is not None else "organization",
        alias=Alias(row.alias),
        gate=row.gate,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _policy_view(alias: Alias, layers: rules.PolicyLayers) -> PolicyView:
    return PolicyView(
        alias=alias,
        policy=layers.policy,
        organization=layers.organization,
        project=layers.project,
        updated_by=layers.row.updated_by if layers.row else None,
        updated_at=layers.row.updated_at if layers.row else None,
    )
