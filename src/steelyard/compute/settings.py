"""The installation's settings of the pool, as the database has them."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.scheduler import Policy, PreemptionRule
from steelyard.specs.pool import PoolPolicy, PoolSettings
from steelyard.storage.tables import PoolSettingsRow


async def read_settings(session: AsyncSession) -> PoolSettings:
    """Return the settings; what nobody has set has its default."""
    row = (await session.execute(select(PoolSettingsRow.currency, PoolSettingsRow.policy))).first()
    if row is None:
        return PoolSettings()
    return PoolSettings(currency=row.currency, policy=PoolPolicy.model_validate(row.policy, strict=False))


def scheduler_policy(policy: PoolPolicy) -> Policy:
    """Return the rules' numbers as the scheduler takes them."""
    return Policy(
        min_runtime_seconds=policy.min_runtime_seconds,
        eviction_cap=policy.eviction_cap,
        preemption=frozenset(PreemptionRule(rule) for rule in policy.preemption),
        priority_margin=policy.priority_margin,
        turn_gpu_seconds=policy.turn_gpu_seconds,
        turn_wait_seconds=policy.turn_wait_seconds,
        turn_advance=policy.turn_advance,
        usage_half_life_seconds=policy.usage_half_life_seconds,
        usage_weight=policy.usage_weight,
        entry_penalty_seconds=policy.entry_penalty_seconds,
        ageing_grace_seconds=policy.ageing_grace_seconds,
        ageing_points_per_hour=policy.ageing_points_per_hour,
        patience_seconds=policy.patience_seconds,
    )
