"""A pool with GPUs and prices, and the life of jobs in it, as workflow and scheduler would live it."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from tests.control_plane import ADMIN, ControlPlane
from tests.e2e.specs import script_spec

from steelyard.compute.executor import Observation, Phase
from steelyard.governance.identity import Actor
from steelyard.jobs.budgets import BudgetKeeper
from steelyard.jobs.metering import MeteringService
from steelyard.kit.errors import StaleLease
from steelyard.specs.budgets import BudgetSpec, BudgetView
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.reports import AttemptReport, Directives
from steelyard.specs.states import JobState, Reason
from steelyard.specs.views import JobView
from steelyard.storage.database import Database

FLAVOR = "sim-a100"
PRICE = Decimal("3.60")
"""A tenth of a cent for each GPU-second."""


@dataclass
class HandClock:
    """A clock that moves when a test moves it."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self.now


@dataclass(frozen=True)
class Attempt:
    """An attempt that runs."""

    id: str
    job_id: str
    epoch: int


@dataclass(frozen=True)
class Pool:
    """One control plane with GPUs. `keeper` is the worker's housekeeping."""

    plane: ControlPlane
    clock: HandClock
    nodes: int
    keeper: BudgetKeeper
    metering: MeteringService

    async def set_budget(self, project: str = "default", **limits: Any) -> BudgetView:
        """Set a budget."""
        budget = BudgetSpec.model_validate_json(json.dumps(limits))
        return await self.plane.services.budgets.put(ADMIN, project, budget)

    async def standing(self, project: str = "default") -> dict[str, Any]:
        """Return spent, reserved and left in GPU-hours and money."""
        view = await self.plane.services.budgets.get(ADMIN, project)
        return {figures.unit: figures for figures in view.figures}

    async def submit(self, gpus: int = 4, seconds: int = 3600, **blocks: Any) -> str:
        """Submit a job; return its id."""
        body = json.dumps(gpu_spec(gpus, seconds, **blocks)).encode()
        return (await self.plane.services.submission.submit(ADMIN, "default", body, None)).job_id

    async def start(self, job_id: str, launch: str = "0:1", run: int = 0) -> Attempt:
        """Bring a job through the queue and start its attempt."""
        await report_nodes(self.plane, self.nodes)
        await self.plane.lifecycle.move(job_id, run, JobState.QUEUED, None, "waiting for a place")
        await self.plane.admission.run_round()
        return await self.launch(job_id, launch, run)

    async def launch(self, job_id: str, launch: str, run: int = 0) -> Attempt:
        """Start an attempt of a job that has its place."""
        launched = await self.plane.lifecycle.start_attempt(job_id, run, launch, "train")
        assert launched.attempt_id is not None, launched
        async with self.plane.database.transaction() as session:
            epoch = await session.scalar(
                text("SELECT epoch FROM attempts WHERE id = :id"), {"id": launched.attempt_id}
            )
        return Attempt(launched.attempt_id, job_id, epoch)

    async def report(
        self, attempt: Attempt, step: int = 1, *, gpu_utilisation: float | None = None
    ) -> Directives:
        """Report as the trainer would."""
        actor = Actor("attempt", attempt.id, attempt_id=attempt.id)
        report = AttemptReport(
            epoch=attempt.epoch, phase="training", step=step, gpu_utilisation=gpu_utilisation
        )
        return await self.plane.services.reports.report(actor, attempt.id, report)

    async def report_or_none(self, attempt: Attempt) -> Directives | None:
        """Report; None where the attempt has no lease any more."""
        try:
            return await self.report(attempt)
        except StaleLease:
            return None

    async def end(self, attempt: Attempt, kind: OutcomeKind = OutcomeKind.SUCCEEDED) -> None:
        """Let the attempt end, as the watcher sees it."""
        outcome = Outcome(
            kind=kind,
            exit_code=ExitCode.DONE if kind is OutcomeKind.SUCCEEDED else ExitCode.CHECKPOINTED,
            reason=Reason.COMPLETED if kind is OutcomeKind.SUCCEEDED else Reason.PREEMPTED,
            message="over",
            step=1,
        )
        await self.plane.endings.end_attempt(attempt.id, Observation(Phase.ENDED, outcome=outcome))

    async def finish(self, attempt: Attempt) -> None:
        """Let attempt and job end well."""
        await self.end(attempt)
        await self.plane.lifecycle.move(attempt.job_id, 0, JobState.SUCCEEDED, None, "done", release=True)

    async def job(self, job_id: str) -> JobView:
        """Return a job."""
        return await self.plane.services.queries.get(ADMIN, "default", job_id)


async def open_pool(plane: ControlPlane, clock: HandClock, lease_seconds: float, nodes: int = 1) -> Pool:
    """Give a control plane nodes of eight priced GPUs."""
    await price(plane.database, FLAVOR, PRICE)
    await report_nodes(plane, nodes)
    metering = MeteringService(plane.workers, lease_seconds, clock)
    return Pool(plane, clock, nodes, BudgetKeeper(plane.workers, metering, clock), metering)


async def report_nodes(plane: ControlPlane, count: int) -> None:
    """Say that nodes of eight GPUs are there."""
    for number in range(count):
        gpus = tuple(f"sim-{number}-{index}" for index in range(8))
        await plane.admission.report_node(f"node-{number}", "local", 64, 1 << 40, gpus, FLAVOR)


async def price(database: Database, flavor: str, per_gpu_hour: Decimal) -> None:
    """Set what a flavor costs."""
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO flavors (name, price_per_gpu_hour) VALUES (:name, :price)"
                " ON CONFLICT (name) DO UPDATE SET price_per_gpu_hour = excluded.price_per_gpu_hour"
            ),
            {"name": flavor, "price": per_gpu_hour},
        )


def gpu_spec(gpus: int, seconds: int, **blocks: Any) -> dict[str, Any]:
    """A job of some GPUs that may run so long."""
    resources = {"cpus": 1, "memory_gb": 1.0, "gpus": gpus}
    limits = {"max_runtime_seconds": seconds}
    return {**script_spec("budgeted"), "resources": resources, "limits": limits, **blocks}
