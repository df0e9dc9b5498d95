"""The rules that hold for one alias of a project: its own, and its organization's. SQL and views."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.rollouts.freezes import thaw_of
from steelyard.rollouts.people import is_alone, organization_of
from steelyard.rollouts.policies import default_policy, stricter
from steelyard.specs.gates import Gate
from steelyard.specs.policies import ApprovalPolicy, SpanWindow, WeeklyWindow, Window
from steelyard.specs.promotions import Alias
from steelyard.storage.tables import ApprovalPolicyRow, FreezeRow, GateRow

_WINDOW: TypeAdapter[SpanWindow | WeeklyWindow] = TypeAdapter(Window)


@dataclass(frozen=True)
class PolicyLayers:
    """A policy and what it is made of."""

    policy: ApprovalPolicy
    organization: ApprovalPolicy
    project: ApprovalPolicy | None
    row: ApprovalPolicyRow | None
    """The project's own."""


async def policy_of(session: AsyncSession, project: ProjectId, alias: Alias) -> ApprovalPolicy:
    """Return the policy that holds."""
    return (await policy_layers(session, project, alias)).policy


async def policy_layers(session: AsyncSession, project: ProjectId, alias: Alias) -> PolicyLayers:
    """Return the policy that holds, and where it comes from."""
    organization = await organization_of(session, project)
    rows = list(
        await session.scalars(
            select(ApprovalPolicyRow)
            .where(
                ApprovalPolicyRow.alias == alias,
                or_(
                    ApprovalPolicyRow.project_id == project,
                    ApprovalPolicyRow.organization_id == organization,
                ),
            )
            .execution_options(populate_existing=True)
        )
    )
    own = next((row for row in rows if row.project_id is not None), None)
    theirs = next((row for row in rows if row.project_id is None), None)
    base = parse_policy(theirs.policy) if theirs else default_policy(alias, alone=await is_alone(session))
    tighter = parse_policy(own.policy) if own else None
    return PolicyLayers(stricter(base, tighter), base, tighter, own)


async def gates_of(session: AsyncSession, project: ProjectId, alias: Alias) -> list[GateRow]:
    """Return the gates before an alias: the organization's, which nobody loosens, and the project's."""
    organization = await organization_of(session, project)
    rows = await session.scalars(
        select(GateRow)
        .where(
            GateRow.alias == alias,
            or_(GateRow.project_id == project, GateRow.organization_id == organization),
        )
        .order_by(GateRow.organization_id.is_(None), GateRow.id)
    )
    return list(rows)


async def freezes_of(session: AsyncSession, project: ProjectId) -> list[FreezeRow]:
    """Return the freeze windows of a project and its organization."""
    organization = await organization_of(session, project)
    query = select(FreezeRow).where(_in_scope(project, organization)).order_by(FreezeRow.id)
    return list(await session.scalars(query))


async def frozen(
    session: AsyncSession, project: ProjectId, alias: Alias, now: datetime
) -> tuple[datetime, str] | None:
    """Return when the freeze that holds for an alias ends, and why it is; None where there is none."""
    rows = [row for row in await freezes_of(session, project) if alias in row.aliases]
    holding = [row for row in rows if thaw_of([parse_window(row.window_spec)], now) is not None]
    thaw = thaw_of([parse_window(row.window_spec) for row in holding], now)
    return None if thaw is None else (thaw, "; ".join(row.reason for row in holding))


def parse_gate(row: GateRow) -> Gate:
    """Return a stored gate."""
    return Gate.model_validate(row.gate, strict=False)


def parse_policy(stored: dict[str, Any]) -> ApprovalPolicy:
    """Return a stored policy."""
    return ApprovalPolicy.model_validate(stored, strict=False)


def parse_window(stored: dict[str, Any]) -> SpanWindow | WeeklyWindow:
    """Return a stored freeze window."""
    return _WINDOW.validate_python(stored, strict=False)


def _in_scope(project: ProjectId, organization: str) -> ColumnElement[bool]:
    return or_(FreezeRow.project_id == project, FreezeRow.organization_id == organization)
