"""Saves histories of families as they are now: `python -m tests.workflows.record_family VERSION`.

Run it once for each release; a history that was saved is never changed, because runs like it may be open.
"""

import asyncio
import sys
import sysconfig
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from tests.workflows.test_family import AT_WORK, DONE, HISTORIES, REGISTERS, FamilyWorld, at_work

from steelyard.specs.states import JobState, Reason
from steelyard.workflows.family import FamilyWorkflow
from steelyard.workflows.messages import FamilyPlan, FamilyStanding

_PAUSED = FamilyStanding(JobState.PAUSED, over=False)


def _stories() -> dict[str, tuple[FamilyWorld, int]]:
    """Worlds, and how many pokes it takes to their end."""
    return {
        "not-ready": (FamilyWorld(plan=FamilyPlan(False, Reason.MODEL_NOT_FOUND, "no such model")), 0),
        "registered": (FamilyWorld(looks=[AT_WORK, AT_WORK, REGISTERS, DONE]), 2),
        "paused-and-resumed": (FamilyWorld(looks=[AT_WORK, _PAUSED, AT_WORK, DONE]), 3),
    }


async def _record(version: str) -> None:
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    HISTORIES.mkdir(exist_ok=True)
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]
        dev_server_existing_path=str(binary), data_converter=pydantic_data_converter
    ) as environment:
        for name, (world, pokes) in _stories().items():
            async with at_work(environment.client, world) as handle:
                for number in range(1, pokes + 1):
                    await world.until(lambda number=number, world=world: world.looked == number)
                    await handle.signal(FamilyWorkflow.poke)
                await handle.result()
                history = await handle.fetch_history()
            _save(HISTORIES / f"{version}-{name}.json", history.to_json())


def _save(path: Path, history: str) -> None:
    path.write_text(history)


if __name__ == "__main__":
    asyncio.run(_record(sys.argv[1]))
