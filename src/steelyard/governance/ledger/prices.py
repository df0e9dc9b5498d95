"""Prices of flavors, as they are now. Each posting keeps the one that it was made with."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.ledger.demand import FREE, Price, highest
from steelyard.specs.blocks import upgrade_spot
from steelyard.storage.tables import FlavorRow


async def prices_of(session: AsyncSession, flavors: Iterable[str]) -> dict[str, Decimal]:
    """Return the price of a GPU-hour of each flavor; one that nobody has priced is not in it."""
    query = select(FlavorRow.name, FlavorRow.price_per_gpu_hour).where(FlavorRow.name.in_(set(flavors)))
    return {name: price for name, price in await session.execute(query) if price is not None}


async def ceiling(session: AsyncSession, spec: Mapping[str, Any]) -> Price:
    """Return the highest price that a job's GPUs can have, as far as its spec leaves it open.

    Args:
        session: any transaction.
        spec: the stored spec of a job.
    """
    resources = _resources(spec)
    if resources["gpus"] == 0:
        return FREE
    rows = await session.scalars(select(FlavorRow).where(FlavorRow.price_per_gpu_hour.is_not(None)))
    return highest(
        Price(row.name, row.price_per_gpu_hour or Decimal(0)) for row in rows if _could_take(row, resources)
    )


def is_free(spec: Mapping[str, Any]) -> bool:
    """Whether a stored spec asks for no GPU, so that nothing is reserved or metered for it."""
    return _resources(spec)["gpus"] == 0


def _could_take(flavor: FlavorRow, resources: Mapping[str, Any]) -> bool:
    """Whether the spec lets the scheduler choose a flavor."""
    named, cap = resources.get("flavors"), resources.get("max_price_per_gpu_hour")
    if named and flavor.name not in named:
        return False
    if cap is not None and (flavor.price_per_gpu_hour or 0) > Decimal(str(cap)):
        return False
    spot = upgrade_spot(resources.get("spot", "never"))
    return spot == "prefer" or flavor.spot == (spot == "only")


def _resources(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the resources of one launch: those of a search's trial, of a retraining's template."""
    inner = spec.get("trial") or spec.get("template") or spec
    return cast("Mapping[str, Any]", inner["resources"])
