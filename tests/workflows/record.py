"""Saves histories of the workflow as it is now: `python -m tests.workflows.record VERSION`.

Run it once for each release; a history that was saved is never changed, because runs like it may be open.
"""

import asyncio
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from tests.workflows.test_job import HISTORIES, Run, running
from tests.workflows.world import CRASH, EVICTION, SUCCESS, World

from steelyard.specs.states import JobState, Verb
from steelyard.workflows.messages import JobPlan


async def _straight(run: Run) -> None:
    await run.admit()


async def _crashed_and_evicted(run: Run) -> None:
    await run.admit()
    await run.world.until(lambda: run.world.states.count(JobState.QUEUED) == 2)
    await run.admit()


async def _paused_and_cancelled(run: Run) -> None:
    await run.admit()
    await run.world.until(lambda: run.world.state is JobState.RUNNING)
    await run.ask(Verb.PAUSE)
    await run.world.until(lambda: run.world.state is JobState.PAUSED)
    await run.ask(Verb.CANCEL)


Story = tuple[World, Callable[[Run], Awaitable[None]]]


def _stories() -> dict[str, Story]:
    plan = JobPlan(True, ["train", "evaluate"], registers=True)
    return {
        "straight": (World(ends=[SUCCESS, SUCCESS], plan=plan), _straight),
        "crashed-and-evicted": (World(ends=[CRASH, EVICTION, SUCCESS]), _crashed_and_evicted),
        "paused-and-cancelled": (World(), _paused_and_cancelled),
    }


async def _record(version: str) -> None:
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]
        dev_server_existing_path=str(binary), data_converter=pydantic_data_converter
    ) as environment:
        for name, (world, story) in _stories().items():
            async with running(environment.client, world) as run:
                await story(run)
                await run.result()
                history = await run.handle.fetch_history()
            _save(HISTORIES / f"{version}-{name}.json", history.to_json())


def _save(path: Path, history: str) -> None:
    path.write_text(history)


if __name__ == "__main__":
    asyncio.run(_record(sys.argv[1]))
