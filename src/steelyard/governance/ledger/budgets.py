"""Setting budgets, and seeing where projects stand in them."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.governance.ledger import repository
from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.forecast import forecast
from steelyard.governance.ledger.standing import Standing, crossings, hard_limit, soft_limit
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound
from steelyard.specs.access import Permission
from steelyard.specs.budgets import UNITS, BudgetFigures, BudgetSpec, BudgetView, Unit
from steelyard.storage.database import Database
from steelyard.storage.tables import BudgetRow, ProjectRow

State = Literal["unlimited", "ok", "warned", "exhausted", "closed"]


class BudgetService:
    """Budgets of projects. A change holds from the next submission on; running jobs follow within seconds."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def get(self, actor: Actor, project: str) -> BudgetView:
        """Return where a project stands; a project without a budget is unbounded.

        Raises:
            NotFound: no such project, or none of the actor's.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.COST_READ)
            return await view_budget(session, checked, self._clock)

    async def search(self, actor: Actor, organization: str) -> list[BudgetView]:
        """Return where all projects of an organization stand.

        Raises:
            NotFound: no such organization, or none of the actor's.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(session, actor, organization, Permission.COST_READ)
            query = select(ProjectRow.id).where(ProjectRow.organization_id == checked)
            projects = await session.scalars(query.order_by(ProjectRow.id))
            return [await view_budget(session, ProjectId(project), self._clock) for project in projects]

    async def put(self, actor: Actor, project: str, budget: BudgetSpec) -> BudgetView:
        """Set a project's budget, in place of the one it had. Raises as `get`."""
        now = self._clock()
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.BUDGET_WRITE)
            before = await repository.standing_of(session, checked, now, lock=True)
            values = {name: getattr(budget, name) for name in BudgetSpec.model_fields}
            values |= {"updated_by": actor.id, "updated_at": now}
            await session.execute(
                upsert(BudgetRow)
                .values(project_id=checked, **values)
                .on_conflict_do_update(index_elements=["project_id"], set_=values)
            )
            await _record(session, actor, checked, "budget.set", before.budget, budget)
            return await view_budget(session, checked, self._clock)

    async def remove(self, actor: Actor, project: str) -> None:
        """Let a project use what it will; it is metered all the same.

        Raises:
            NotFound: no such project, none of the actor's, or it has no budget.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.BUDGET_WRITE)
            before = await repository.standing_of(session, checked, self._clock(), lock=True)
            if before.budget is None:
                raise NotFound(f"project {project} has no budget; 'steelyard budget set' makes one")
            await session.execute(delete(BudgetRow).where(BudgetRow.project_id == checked))
            await _record(session, actor, checked, "budget.remove", before.budget, None)


async def view_budget(session: AsyncSession, project: ProjectId, clock: Clock) -> BudgetView:
    """Return where a project stands, within a transaction."""
    return budget_view(await repository.standing_of(session, project, clock()))


def budget_view(standing: Standing) -> BudgetView:
    """Return a standing as people see it."""
    period = standing.period
    ahead = forecast(standing.spent, standing.reserved, period, standing.now)
    return BudgetView(
        project=standing.project_id,
        budget=standing.budget,
        starts_on=period.first,
        ends_on=period.last,
        state=_state(standing),
        figures=[_figures(standing, unit, ahead.run_rate, ahead.expected) for unit in UNITS],
    )


def _figures(standing: Standing, unit: Unit, run_rate: Amount, expected: Amount) -> BudgetFigures:
    left = standing.left(unit)
    return BudgetFigures(
        unit=unit,
        limit=hard_limit(standing.budget, unit),
        soft_limit=soft_limit(standing.budget, unit),
        spent=round(standing.spent.of(unit), 9),
        reserved=round(standing.reserved.of(unit), 9),
        left=None if left is None else round(left, 9),
        forecast=round(expected.of(unit), 6),
        run_rate=round(run_rate.of(unit), 6),
    )


def _state(standing: Standing) -> State:
    if standing.budget is None:
        return "unlimited"
    if standing.is_closed:
        return "closed"
    passed: Sequence[str] = [crossing.kind for crossing in crossings(standing)]
    if "hard" in passed:
        return "exhausted"
    return "warned" if passed else "ok"


async def _record(
    session: AsyncSession,
    actor: Actor,
    project: ProjectId,
    verb: str,
    before: BudgetSpec | None,
    after: BudgetSpec | None,
) -> None:
    await audit.record_change(
        session, actor, verb, "budget", project, _plain(before), _plain(after), project_id=project
    )


def _plain(budget: BudgetSpec | None) -> dict[str, str] | None:
    if budget is None:
        return None
    values = {name: getattr(budget, name) for name in BudgetSpec.model_fields}
    return {name: _word(value) for name, value in values.items() if value is not None}


def _word(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
