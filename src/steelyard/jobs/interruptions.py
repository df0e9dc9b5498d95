"""Nodes that are taken away at short notice: their jobs save, leave, and queue again at no cost of theirs."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.compute.hints import wake_scheduler
from steelyard.compute.pool import node_view
from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.jobs.places import ask_to_leave
from steelyard.jobs.repository import lock_job
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound
from steelyard.specs.access import Permission
from steelyard.specs.pool import Interruption, NodeView
from steelyard.specs.states import Reason
from steelyard.storage.database import Database
from steelyard.storage.tables import AllocationRow, NodeRow


class InterruptionService:
    """Takes notices from operators and from agents on the nodes. A notice given again moves the deadline."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def interrupt(self, actor: Actor, name: str, notice: Interruption) -> NodeView:
        """Let a node take no new work, and its jobs save and leave before the deadline.

        The node is back when an agent reports that started after the deadline, or when somebody restores it.

        Raises:
            NotFound: no such node.
            PermissionDenied: the actor doesn't operate the installation.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.POOL_WRITE)
            now = self._clock()
            node = await _lock_node(session, name)
            node.interruption_deadline = now + timedelta(seconds=notice.in_seconds)
            node.interruption_reason = notice.reason
            await session.flush()
            detail = notice.model_dump(mode="json")
            await audit.record(session, actor, "node.interrupt", "node", name, detail=detail)
            jobs = await session.scalars(
                select(AllocationRow.job_id).where(AllocationRow.node == name).order_by(AllocationRow.job_id)
            )
            message = (
                f"node {name} is taken away in {notice.in_seconds:g} s ({notice.reason}); it saves and is"
                " queued again"
            )
            for job_id in list(jobs):
                job = await lock_job(session, job_id)
                await ask_to_leave(session, job, Reason.SPOT_INTERRUPTED, message, now)
            return await node_view(session, name, now)

    async def restore(self, actor: Actor, name: str) -> NodeView:
        """Let a node take work again. Raises as `interrupt`."""
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.POOL_WRITE)
            node = await _lock_node(session, name)
            node.interruption_deadline = None
            node.interruption_reason = None
            await session.flush()
            await audit.record(session, actor, "node.restore", "node", name)
            await wake_scheduler(session)
            return await node_view(session, name, self._clock())


async def _lock_node(session: AsyncSession, name: str) -> NodeRow:
    node = await session.scalar(select(NodeRow).where(NodeRow.name == name).with_for_update())
    if node is None:
        raise NotFound(f"no node {name!r}; 'steelyard pool nodes' shows them", param="node")
    return node
