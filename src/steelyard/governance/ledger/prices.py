"""Prices of flavors, as they are now. Each posting keeps the one that it was made with."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import column, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.ledger.demand import FREE, Price, highest

_FLAVORS = table("flavors", column("name"), column("price_per_gpu_hour"))


async def prices_of(session: AsyncSession, flavors: Iterable[str]) -> dict[str, Decimal]:
    """Return the price of a GPU-hour of each flavor; one that nobody has priced is not in it."""
    query = select(_FLAVORS.c.name, _FLAVORS.c.price_per_gpu_hour).where(_FLAVORS.c.name.in_(set(flavors)))
    return {name: Decimal(price) for name, price in await session.execute(query) if price is not None}


async def ceiling(session: AsyncSession, spec: Mapping[str, Any]) -> Price:
    """Return the highest price that a job's GPUs can have, as far as its spec leaves it open.

    Args:
        session: any transaction.
        spec: the stored spec of a job.
    """
    resources = _resources(spec)
    if resources["gpus"] == 0:
        return FREE
    rows = await session.execute(select(_FLAVORS.c.name, _FLAVORS.c.price_per_gpu_hour))
    return highest(Price(name, Decimal(price)) for name, price in rows if price is not None)


def _resources(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the resources of one launch: those of a search's trial, of a retraining's template."""
    inner = spec.get("trial") or spec.get("template") or spec
    return cast("Mapping[str, Any]", inner["resources"])
