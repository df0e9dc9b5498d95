"""Saves histories of promotions as they are now: `python -m tests.workflows.record_promotion VERSION`.

Run it once for each release; a history that was saved is never changed, because runs like it may be open.
"""

import asyncio
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from tests.workflows.test_promotion import HISTORIES, WAITS, PromotionWorld, promoting

from steelyard.workflows.messages import PromotionStanding
from steelyard.workflows.promotion import PromotionWorkflow

_PROMOTED = PromotionStanding("promoted", over=True)


def _stories() -> dict[str, tuple[PromotionWorld, int]]:
    """Worlds, and how many nudges it takes to their end."""
    soon = PromotionStanding(
        "awaiting_approval", over=False, wake_at=datetime.now(UTC) + timedelta(seconds=1)
    )
    return {
        "gates-failed": (PromotionWorld(checked=PromotionStanding("gate_failed", over=True)), 0),
        "approved-by-two": (PromotionWorld(settled=[WAITS, WAITS, _PROMOTED]), 2),
        "expired": (PromotionWorld(settled=[soon, PromotionStanding("expired", over=True)]), 0),
    }


async def _record(version: str) -> None:
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    HISTORIES.mkdir(exist_ok=True)
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]
        dev_server_existing_path=str(binary), data_converter=pydantic_data_converter
    ) as environment:
        for name, (world, nudges) in _stories().items():
            async with promoting(environment.client, world) as handle:
                for number in range(1, nudges + 1):
                    await world.until(lambda number=number, world=world: world.settles == number)
                    await handle.signal(PromotionWorkflow.nudge)
                await handle.result()
                history = await handle.fetch_history()
            _save(HISTORIES / f"{version}-{name}.json", history.to_json())


def _save(path: Path, history: str) -> None:
    path.write_text(history)


if __name__ == "__main__":
    asyncio.run(_record(sys.argv[1]))
