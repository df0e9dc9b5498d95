"""What GPU-hours cost, by flavor."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.storage.tables import FlavorRow, PoolSettingsRow


@dataclass(frozen=True)
class FlavorPrices:
    """Prices of a GPU-hour, and the installation's currency (an ISO 4217 code)."""

    currency: str
    per_gpu_hour: dict[str, Decimal]
    """Flavors without a price are not in it."""


async def flavor_prices(session: AsyncSession) -> FlavorPrices:
    """Return the price of a GPU-hour of each flavor that has one."""
    currency = await session.scalar(select(PoolSettingsRow.currency))
    rows = await session.execute(select(FlavorRow.name, FlavorRow.price_per_gpu_hour))
    prices = {name: price for name, price in rows if price is not None}
    return FlavorPrices(currency or "EUR", prices)
