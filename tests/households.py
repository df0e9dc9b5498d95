"""A family in a pool with GPUs: a search by a step function of the tests' own, lived through by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from tests.control_plane import ADMIN
from tests.gpu_pool import Attempt, Pool, gpu_spec

from steelyard.governance.ledger import repository
from steelyard.jobs.families import FamilyService, FamilyStanding
from steelyard.specs.families import Child, ChildOrder, ChildStop, FamilyEnd, FamilyStep
from steelyard.specs.job import HpoSpec
from steelyard.specs.outcome import OutcomeKind
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.views import JobView
from steelyard.storage.tables import JobRow


def search_spec(
    trials: int = 3, side_by_side: int = 2, gpus: int = 2, seconds: int = 3600, **blocks: Any
) -> dict[str, Any]:
    """A search whose trials are scripts of some GPUs that may run so long each."""
    return {
        "api_version": "steelyard/v1",
        "type": "hpo",
        "name": "search",
        "search": {
            "algorithm": "random",
            "metric": "train/loss",
            "direction": "minimize",
            "parameters": {"training.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-3}},
            "max_trials": trials,
            "max_concurrent_trials": side_by_side,
        },
        "trial": gpu_spec(gpus, seconds),
        **blocks,
    }


def key_of(number: int) -> str:
    """Return the key of a trial."""
    return f"trial-{number:04d}"


def plain_step(spec: HpoSpec, children: Sequence[Child]) -> FamilyStep:
    """Make all trials, so many at once, and end with the first that succeeded; fail where none did."""
    live = [child for child in children if child.state not in TERMINAL_STATES]
    due = [child.key for child in children if child.is_due]
    block, made = spec.search, len(children)
    if made == block.max_trials and not live and not due:
        good = [child.key for child in children if child.state is JobState.SUCCEEDED]
        if good:
            return FamilyStep(end=FamilyEnd(True, "completed", f"{good[0]} is the best", good[0]))
        return FamilyStep(end=FamilyEnd(False, "no_trial_succeeded", "no trial succeeded"))
    places = block.max_concurrent_trials - len(live)
    again = tuple(due[:places])
    free = min(places - len(again), block.max_trials - made)
    trial = spec.trial.model_dump(mode="json")
    orders = tuple(
        ChildOrder(key_of(number), {**trial, "name": f"search-{number}"}, {"number": number}, registers=False)
        for number in range(made, made + free)
    )
    return FamilyStep(
        start=orders, restart=again, message=f"{made + len(orders)} of {block.max_trials} trials"
    )


@dataclass
class Steps:
    """A step function that stops named trials and gives up when it is told to; else `plain_step`."""

    stops: dict[str, str] = field(default_factory=dict[str, str])
    end: FamilyEnd | None = None
    spoilt: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of a trial's spec that are wrong."""

    def __call__(self, spec: HpoSpec, children: Sequence[Child]) -> FamilyStep:
        if self.end is not None:
            return FamilyStep(end=self.end)
        step = plain_step(spec, children)
        stops = tuple(
            ChildStop(child.key, self.stops[child.key], "behind the others")
            for child in children
            if child.key in self.stops and child.state not in TERMINAL_STATES
        )
        start = tuple(
            ChildOrder(order.key, {**order.spec, **self.spoilt}, order.parameters, order.registers)
            for order in step.start
        )
        return FamilyStep(start, stops, step.end, step.message, step.restart)


@dataclass
class Household:
    """One control plane, and what carries its families on."""

    pool: Pool
    steps: Steps = field(default_factory=Steps)
    launches: int = 0

    @property
    def families(self) -> FamilyService:
        """The worker's service."""
        return FamilyService(self.pool.plane.database, {"hpo": self.steps}, self.pool.clock)

    async def submit(self, **settings: Any) -> str:
        """Submit a search; return its id."""
        body = json.dumps(search_spec(**settings)).encode()
        return (await self.pool.plane.services.submission.submit(ADMIN, "default", body, None)).job_id

    async def look(self, parent: str, run: int = 0) -> FamilyStanding:
        """Look at a family, as its workflow does."""
        return await self.families.advance(parent, run)

    async def children(self, parent: str) -> list[JobView]:
        """Return the children, oldest first."""
        async with self.pool.plane.database.transaction() as session:
            query = select(JobRow.id).where(JobRow.parent_id == parent).order_by(JobRow.id)
            ids = list(await session.scalars(query))
        return [await self.pool.job(each) for each in ids]

    async def states(self, parent: str) -> list[str]:
        """Return the children's states, oldest first."""
        return [child.state.value for child in await self.children(parent)]

    async def start(self, child: str, run: int = 0) -> Attempt:
        """Start an attempt of a child."""
        self.launches += 1
        return await self.pool.start(child, f"{run}:{self.launches}", run)

    async def settle(self, child: str, run: int = 0) -> JobState:
        """Do what a child's workflow does with what is wanted of it: pause, cancel, or queue it again."""
        view = await self.pool.job(child)
        target = {JobState.PAUSING: JobState.PAUSED, JobState.CANCELLING: JobState.CANCELLED}.get(view.state)
        if target is not None:
            reason = "paused_by_user" if target is JobState.PAUSED else "cancelled_by_user"
            await self.pool.plane.lifecycle.move(child, run, target, reason, target.value, release=True)
        return (await self.pool.job(child)).state

    async def leave(self, attempt: Attempt, run: int = 0) -> JobState:
        """Let an attempt save and leave, and its job be what is wanted of it."""
        await self.pool.end(attempt, OutcomeKind.CHECKPOINTED)
        return await self.settle(attempt.job_id, run)

    async def end(self, child: str, target: JobState, reason: str | None = None, run: int = 0) -> None:
        """Let a child's workflow end it."""
        await self.pool.plane.lifecycle.move(child, run, target, reason, "over", release=True)

    async def reserved(self) -> float:
        """Return the GPU-hours that are reserved."""
        return float((await self.pool.standing())["gpu_hours"].reserved)

    async def require_balance(self) -> None:
        """The ledger adds up."""
        async with self.pool.plane.database.transaction() as session:
            assert await repository.imbalances(session) == []
