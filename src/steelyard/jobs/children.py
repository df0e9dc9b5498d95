"""Children of a family: made, read, and told what their family does. All within the caller's transaction.

The caller holds the parent's row; a child's row is locked after that, so two never wait for each other. Moves
of a child by itself lock its own row alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.access import ProjectId
from steelyard.governance.identity import SYSTEM
from steelyard.governance.ledger.demand import demand_of
from steelyard.jobs.commands import apply_verb, begin_run, join_run
from steelyard.jobs.costs import reserve_job
from steelyard.jobs.entries import enter_job, new_job
from steelyard.jobs.events import append_event
from steelyard.jobs.family_rules import RUN_KEY, is_due
from steelyard.jobs.holds import tell_attempt
from steelyard.jobs.pinning import pin
from steelyard.jobs.repository import lock_job
from steelyard.jobs.specs import parse_spec, stored_spec
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.families import Child, ChildOrder
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason, Verb, refuse_verb
from steelyard.storage.tables import JobRow, ModelVersionRow

PARENT_KEY = "parent"
"""Entry of a child's lineage that names the job that made it."""
Curves = Mapping[str, tuple[tuple[int, float], ...]]
"""Id of a child -> its curve."""


@dataclass(frozen=True)
class Kin:
    """A child, and what may be asked of it."""

    child: Child

    @property
    def is_over(self) -> bool:
        """Whether it has ended. One that waits to be started again has, for now."""
        return self.child.state in TERMINAL_STATES

    @property
    def may_be_paused(self) -> bool:
        """Whether it can be asked to pause."""
        return refuse_verb(Verb.PAUSE, self.child.state) is None

    @property
    def may_be_cancelled(self) -> bool:
        """Whether it can be asked to stop."""
        return refuse_verb(Verb.CANCEL, self.child.state) is None


async def read_kin(session: AsyncSession, parent: JobRow, curves: Curves | None = None) -> list[Kin]:
    """Return a family's children in the order in which they were made. Locks nothing."""
    version = (ModelVersionRow.job_id == JobRow.id) & (ModelVersionRow.run_number == JobRow.run_number)
    rows = await session.execute(
        select(
            JobRow.id, JobRow.child_key, JobRow.state, JobRow.status_reason, JobRow.status_message,
            JobRow.child_order, JobRow.metrics, ModelVersionRow.name, ModelVersionRow.version,
        )
        .outerjoin(ModelVersionRow, version)
        .where(JobRow.parent_id == parent.id)
        .order_by(JobRow.id)
    )  # fmt: skip
    return [
        Kin(
            Child(
                key=row.child_key or "",
                job_id=row.id,
                state=JobState(row.state),
                reason=row.status_reason,
                parameters=row.child_order["parameters"],
                metrics=row.metrics,
                curve=(curves or {}).get(row.id, ()),
                model_version=f"models/{row.name}@{row.version}" if row.name else None,
                message=row.status_message,
                is_due=is_due(
                    parent.type,
                    parent.run_number,
                    row.child_order.get(RUN_KEY, 0),
                    JobState(row.state),
                    row.status_reason,
                ),
            )
        )
        for row in rows
    ]


async def add_child(session: AsyncSession, parent: JobRow, order: ChildOrder, now: datetime) -> bool:
    """Make a child, on behalf of who made its family; False where there is one of this key.

    It draws on its parent's reservation. Its priority is its parent's, the rest is what the order says.

    Raises:
        InvalidSpec: the order's spec breaks the schema, names data that isn't there, or asks for more than
            its parent reserved for one child.
    """
    known = select(JobRow.id).where(JobRow.parent_id == parent.id, JobRow.child_key == order.key)
    if await session.scalar(known) is not None:
        return False
    project = ProjectId(parent.project_id)
    spec = parse_spec(json.dumps(order.spec).encode())
    if not isinstance(spec, FineTuneSpec | EvalOnlySpec):
        raise InvalidSpec(f"a child can't be of type {spec.type}", param="type")
    _require_reserved(parent, spec)
    pinned, dataset = await pin(session, project, spec, begun=True)
    job = new_job(parent.created_by, project, pinned, dataset, now)
    job.parent_id, job.child_key, job.priority = parent.id, order.key, parent.priority
    job.child_order = {
        "parameters": order.parameters, "registers": order.registers, RUN_KEY: parent.run_number,
    }  # fmt: skip
    job.lineage = {**job.lineage, PARENT_KEY: parent.id}
    await enter_job(
        session, SYSTEM, job, f"made by {parent.id} as {order.key}",
        {"parent": parent.id, "on_behalf_of": parent.created_by},
    )  # fmt: skip
    await append_event(
        session, parent, "family.child", f"{order.key} is {job.id}" + (f": {order.why}" if order.why else ""),
        data={"child": job.id, "key": order.key, "parameters": order.parameters},
    )  # fmt: skip
    await reserve_job(session, job, now)
    return True


async def stop_child(session: AsyncSession, child_id: str, reason: str, message: str, now: datetime) -> None:
    """Have a child stop at a step's end and end as cancelled; one that is over, or about to be, stays so."""
    child = await lock_job(session, child_id)
    if refuse_verb(Verb.CANCEL, JobState(child.state)) is not None:
        return
    await tell_attempt(session, child, reason)
    await apply_verb(session, SYSTEM, child, Verb.CANCEL, now, arguments=reason)
    child.status_reason, child.status_message = reason, message


async def pause_child(session: AsyncSession, child_id: str, message: str, now: datetime) -> None:
    """Have a child save and pause until its family goes on."""
    child = await lock_job(session, child_id)
    if refuse_verb(Verb.PAUSE, JobState(child.state)) is not None:
        return
    await tell_attempt(session, child, Reason.FAMILY_PAUSED)
    await apply_verb(session, SYSTEM, child, Verb.PAUSE, now, arguments=Reason.FAMILY_PAUSED)
    child.status_reason, child.status_message = Reason.FAMILY_PAUSED, message


async def resume_child(
    session: AsyncSession, child_id: str, reasons: frozenset[Reason], now: datetime
) -> None:
    """Let a child go on that was paused for one of these reasons."""
    child = await lock_job(session, child_id)
    if child.state == JobState.PAUSED and child.status_reason in reasons:
        await apply_verb(session, SYSTEM, child, Verb.RESUME, now, arguments="its family goes on")


async def restart_child(session: AsyncSession, parent: JobRow, child_id: str, now: datetime) -> None:
    """Run a child that has failed or was cancelled once more, from its newest checkpoint."""
    child = await lock_job(session, child_id)
    if refuse_verb(Verb.RETRY, JobState(child.state)) is None:
        await apply_verb(session, SYSTEM, child, Verb.RETRY, now, begin_run, "its family is retried")
        join_run(child, parent)


def _require_reserved(parent: JobRow, spec: FineTuneSpec | EvalOnlySpec) -> None:
    """Hold a child against what its parent reserved for one.

    Raises:
        InvalidSpec: it asks for more.
    """
    asked, most = demand_of(spec), demand_of(stored_spec(parent))
    if asked.gpus > most.gpus:
        raise InvalidSpec(
            f"a child asks for {asked.gpus} GPUs, and {parent.id} reserved {most.gpus} for each",
            param="resources.gpus",
        )
    if asked.seconds > most.seconds:
        raise InvalidSpec(
            f"a child may run {asked.seconds:.0f} s, and {parent.id} reserved {most.seconds:.0f} s for each",
            param="limits.max_runtime_seconds",
        )
