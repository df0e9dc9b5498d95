"""Costs by project, user, type, tag, flavor, job and day, out of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from steelyard.governance import access
from steelyard.governance.identity import Actor
from steelyard.governance.ledger import repository
from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.forecast import METHOD, forecast
from steelyard.governance.ledger.periods import Period, day_of, period_of
from steelyard.governance.ledger.postings import total
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import InvalidRequest
from steelyard.kit.paging import Page, page_of
from steelyard.specs.access import Permission
from steelyard.specs.budgets import CostForecast, CostReport, CostRow, LedgerEntry, LedgerVerification
from steelyard.storage.database import Database
from steelyard.storage.tables import JobRow, LedgerHeadRow, LedgerUsageRow, ProjectRow

_TAG = "tag:"
_MAX_DAYS = 3 * 366
_PARENT = aliased(JobRow, name="parent")
_COLUMNS: dict[str, ColumnElement[Any]] = {
    "project": LedgerUsageRow.project_id.expression,
    "user": JobRow.created_by.expression,
    "type": func.coalesce(_PARENT.type, JobRow.type),
    "flavor": LedgerUsageRow.flavor.expression,
    "job": LedgerUsageRow.job_id.expression,
    "day": cast(LedgerUsageRow.day, Text),
}


@dataclass(frozen=True)
class Question:
    """What is asked: groups in order, and the days, both included. Unset: this calendar month."""

    group_by: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None


class CostService:
    """Reads costs. What a trial cost is its own, though it drew on its parent's reservation; by type it is
    counted as its parent's."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def report(self, actor: Actor, project: str, question: Question) -> CostReport:
        """Return a project's costs.

        Raises:
            NotFound: no such project, or none of the actor's.
            InvalidRequest: a group that isn't known, or days in the wrong order.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.COST_READ)
            return await self._report(session, [checked], question)

    async def report_organization(self, actor: Actor, organization: str, question: Question) -> CostReport:
        """Return the costs of all projects of an organization. Raises as `report`."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(session, actor, organization, Permission.COST_READ)
            query = select(ProjectRow.id).where(ProjectRow.organization_id == checked)
            return await self._report(session, list(await session.scalars(query)), question)

    async def entries(
        self, actor: Actor, project: str, job: str | None, limit: int, after: str | None
    ) -> Page[LedgerEntry]:
        """Return a page of the ledger's transactions, newest first, of one job or of all.

        Raises:
            NotFound: no such project, or none of the actor's.
            InvalidRequest: `after` is not the `next` of a page.
        """
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise InvalidRequest("'after' is the `next` of a page before", param="after")
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.COST_READ)
            found = await repository.list_entries(
                session, checked, job, limit + 1, int(after) if after else None
            )
        return page_of([entry for _, entry in found], limit, [str(number) for number, _ in found])

    async def verify(self, actor: Actor, project: str) -> LedgerVerification:
        """Add up a project's ledger anew, and compare it with all sums that are kept.

        Takes seconds for millions of postings.

        Raises:
            NotFound: no such project, or none of the actor's.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.COST_READ)
            faults = await repository.imbalances(session, checked)
            count = await repository.count_transactions(session, checked)
        return LedgerVerification(transactions=count, faults=list(faults))

    async def _report(self, session: AsyncSession, projects: Sequence[str], question: Question) -> CostReport:
        now = self._clock()
        span = _span(question, day_of(now))
        groups = [(name, _column(name)) for name in dict.fromkeys(question.group_by)]
        rows = await _rows(session, projects, span, groups)
        whole = total(row.amount for row in rows)
        return CostReport(
            since=span.first,
            until=span.last,
            group_by=[name for name, _ in groups],
            rows=[row.view() for row in rows] if groups else [],
            gpu_hours=round(whole.of("gpu_hours"), 9),
            money=whole.money,
            forecast=await _forecast(session, projects, whole, span, now),
        )


async def spent_by_job(session: AsyncSession, job_id: str) -> Amount:
    """Return all that a job has cost, with its children."""
    children = select(JobRow.id).where(JobRow.parent_id == job_id)
    query = select(
        func.coalesce(func.sum(LedgerUsageRow.gpu_seconds), 0),
        func.coalesce(func.sum(LedgerUsageRow.money), 0),
    ).where((LedgerUsageRow.job_id == job_id) | LedgerUsageRow.job_id.in_(children))
    gpu_seconds, money = (await session.execute(query)).one()
    return Amount(gpu_seconds, money)


@dataclass(frozen=True)
class _Row:
    group: dict[str, str]
    amount: Amount
    jobs: int

    def view(self) -> CostRow:
        return CostRow(
            group=self.group,
            gpu_hours=round(self.amount.of("gpu_hours"), 9),
            money=self.amount.money,
            jobs=self.jobs,
        )


async def _rows(
    session: AsyncSession,
    projects: Sequence[str],
    span: Period,
    groups: Sequence[tuple[str, ColumnElement[Any]]],
) -> list[_Row]:
    columns = [column.label(f"group_{number}") for number, (_, column) in enumerate(groups)]
    # By their names: an expression with a parameter, such as a tag's, isn't equal to itself.
    labels = [text(column.name) for column in columns]
    query: Select[*tuple[Any, ...]] = (
        select(
            func.sum(LedgerUsageRow.gpu_seconds),
            func.sum(LedgerUsageRow.money),
            func.count(LedgerUsageRow.job_id.distinct()),
            *columns,
        )
        .outerjoin(JobRow, JobRow.id == LedgerUsageRow.job_id)
        .outerjoin(_PARENT, _PARENT.id == JobRow.parent_id)
        .where(LedgerUsageRow.project_id.in_(projects), LedgerUsageRow.day.between(span.first, span.last))
        .group_by(*labels)
        .order_by(*labels)
    )
    names = [name for name, _ in groups]
    return [
        _Row(dict(zip(names, map(str, row[3:]), strict=True)), Amount(row[0], row[1]), row[2])
        for row in await session.execute(query)
        if row[0] is not None
    ]


async def _forecast(
    session: AsyncSession, projects: Sequence[str], spent: Amount, span: Period, now: datetime
) -> CostForecast | None:
    if span.last < day_of(now):
        return None
    query = select(
        func.coalesce(func.sum(LedgerHeadRow.reserved_gpu_seconds), 0),
        func.coalesce(func.sum(LedgerHeadRow.reserved_money), 0),
    ).where(LedgerHeadRow.project_id.in_(projects))
    gpu_seconds, money = (await session.execute(query)).one()
    expected = forecast(spent, Amount(gpu_seconds, money), span, now).expected
    return CostForecast(
        until=span.last,
        gpu_hours=round(expected.of("gpu_hours"), 6),
        money=round(expected.money, 6),
        method=METHOD,
    )


def _span(question: Question, today: date) -> Period:
    month = period_of("month", today)
    since = question.since or (month.first if question.until is None else question.until.replace(day=1))
    until = question.until or max(month.last, since)
    if since > until:
        raise InvalidRequest("'until' must not be before 'since'", param="until")
    if until - since > timedelta(days=_MAX_DAYS):
        raise InvalidRequest(f"a report covers {_MAX_DAYS} days at most; ask for less", param="since")
    return Period(since, until)


def _column(name: str) -> ColumnElement[Any]:
    if name.startswith(_TAG) and len(name) > len(_TAG):
        return func.coalesce(JobRow.tags[name.removeprefix(_TAG)].astext, "")
    column = _COLUMNS.get(name)
    if column is None:
        raise InvalidRequest(
            f"can't group by {name!r}; possible: {', '.join(_COLUMNS)}, and tag:KEY", param="group_by"
        )
    return column
