"""What jobs reserve and give back in the ledger: part of the caller's transaction, and the last of it."""

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.governance.ledger import accounting, repository
from steelyard.governance.ledger.amounts import Amount
from steelyard.governance.ledger.budgets import view_budget
from steelyard.governance.ledger.costs import spent_by_job
from steelyard.governance.ledger.demand import Demand, demand_of
from steelyard.governance.ledger.meters import Share
from steelyard.governance.ledger.prices import ceiling, is_free
from steelyard.jobs.family_rules import RUN_KEY, is_due
from steelyard.jobs.specs import stored_spec
from steelyard.kit.clock import Clock
from steelyard.specs.budgets import JobCost, PlanCost
from steelyard.specs.families import FAMILY_TYPES
from steelyard.specs.job import JobSpec
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.storage.tables import AllocationRow, JobRow, NodeRow


async def demand_of_job(session: AsyncSession, job: JobRow) -> Demand:
    """Return what a stored job may still use; of a search or pipeline all its children together."""
    spec = stored_spec(job)
    if job.type in FAMILY_TYPES:
        return demand_of(spec, await _gone_seconds(session, job))
    return demand_of(spec, job.running_seconds)


async def reserve_job(session: AsyncSession, job: JobRow, now: datetime) -> Amount:
    """Hold what a job may use from here on: at its submission, its resumption, its retry.

    A child draws on what is held for its parent, and nothing is held for itself.

    Raises:
        BudgetExceeded: the project's budget doesn't have it.
    """
    if is_free(job.spec):
        return Amount()
    if job.parent_id is not None:
        await accounting.draw_on(session, job.project_id, job.id, job.parent_id)
        return Amount()
    demand = await demand_of_job(session, job)
    price = await ceiling(session, job.spec)
    order = f"{job.run_number}:{job.command_sequence}"
    return await accounting.reserve(session, job.project_id, job.id, order, demand, price, now)


async def release_job(session: AsyncSession, job: JobRow, now: datetime) -> None:
    """Give back what is still held for a job that ends or pauses."""
    await accounting.release(session, job.project_id, job.id, now)


async def meter_attempt(
    session: AsyncSession, job: JobRow, attempt_id: str, now: datetime, lease: timedelta
) -> None:
    """Begin to meter an attempt: all GPUs that its job holds, whether or not this stage uses them."""
    rows = await session.execute(
        select(NodeRow.flavor, AllocationRow.gpu_ids)
        .join(NodeRow, NodeRow.name == AllocationRow.node)
        .where(AllocationRow.job_id == job.id)
    )
    held: dict[str, int] = {}
    for flavor, gpu_ids in rows:
        held[flavor] = held.get(flavor, 0) + len(gpu_ids)
    shares = tuple(Share(flavor, gpus) for flavor, gpus in sorted(held.items()))
    await accounting.open_meter(session, job.project_id, job.id, attempt_id, shares, now, lease)


async def refusal_to_run(session: AsyncSession, job: JobRow, now: datetime) -> str | None:
    """Return why the budget doesn't let a job run now, in words, or None where it does."""
    if is_free(job.spec):
        return None
    price = await ceiling(session, job.spec)
    demand = await demand_of_job(session, job)
    return await accounting.exhausted_by(session, job.project_id, demand, price, now)


async def plan_cost(session: AsyncSession, project: ProjectId, spec: JobSpec, clock: Clock) -> PlanCost:
    """Return what a submission would reserve, at which price, and what that does to the budget."""
    demand, price = demand_of(spec), await ceiling(session, spec.model_dump(mode="json"))
    amount = demand.amount(price.per_gpu_hour)
    standing = await repository.standing_of(session, project, clock())
    refusal = standing.refusal(demand, price.per_gpu_hour)
    return PlanCost(
        gpu_hours=round(amount.of("gpu_hours"), 9),
        money=amount.money,
        price_per_gpu_hour=price.per_gpu_hour,
        flavor=price.flavor,
        refusal=refusal.message if refusal else None,
        budget=await view_budget(session, project, clock),
    )


async def cost_of_job(session: AsyncSession, job: JobRow) -> JobCost:
    """Return what a job has cost so far, and what is held for it."""
    if is_free(job.spec):
        return JobCost(
            gpu_hours=Decimal(0), money=Decimal(0), reserved_gpu_hours=Decimal(0), reserved_money=Decimal(0)
        )
    spent = await spent_by_job(session, job.id)
    held = (await repository.find_reservation(session, job.id)).remaining
    return JobCost(
        gpu_hours=round(spent.of("gpu_hours"), 9),
        money=spent.money,
        reserved_gpu_hours=round(held.of("gpu_hours"), 9),
        reserved_money=held.money,
    )


async def _gone_seconds(session: AsyncSession, parent: JobRow) -> float:
    """Return how much of what a family's children may run is used up, or will not be used in this run."""
    rows = await session.execute(
        select(
            JobRow.state,
            JobRow.status_reason,
            JobRow.running_seconds,
            JobRow.spec["limits"]["max_runtime_seconds"].astext,
            JobRow.child_order[RUN_KEY].astext,
        ).where(JobRow.parent_id == parent.id)
    )
    return sum(
        _gone_of_child(parent, int(run or 0), JobState(state), reason, running, float(longest))
        for state, reason, running, longest, run in rows
    )


def _gone_of_child(
    parent: JobRow, child_run: int, state: JobState, reason: str | None, running: float, longest: float
) -> float:
    if state not in TERMINAL_STATES:
        return min(running, longest)
    return 0.0 if is_due(parent.type, parent.run_number, child_run, state, reason) else longest
