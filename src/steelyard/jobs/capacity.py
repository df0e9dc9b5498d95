"""What the pool has, and whether a job could run in it."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.kit.errors import QuotaExceeded
from steelyard.specs.blocks import ResourcesBlock
from steelyard.specs.states import JobState
from steelyard.storage.scopes import pool_view
from steelyard.storage.tables import AllocationRow, JobRow, NodeRow

BYTES_PER_GB = 10**9


@dataclass(frozen=True)
class Forecast:
    """What would become of a job that was submitted now."""

    fits: bool
    free_now: bool
    queue_position: int
    messages: tuple[str, ...]


class Capacity:
    """Reads the pool within a transaction.

    Args:
        within: what stands before the fields' names in the job's spec, such as `trial.`.
    """

    def __init__(self, session: AsyncSession, within: str = "") -> None:
        self._session = session
        self._within = within

    async def require_fit(self, asked: ResourcesBlock) -> None:
        """Refuse what no node could ever hold.

        A pool that has no node yet refuses nothing: its first worker may be about to start.

        Raises:
            QuotaExceeded: with the numbers, and the field at fault.
        """
        nodes = await self._nodes()
        if not nodes or any(_holds(node, asked) for node in nodes):
            return
        field, most, wanted = _shortage(nodes, asked)
        param = f"{self._within}resources.{field}"
        raise QuotaExceeded(
            f"{param}: {wanted:g} asked for, the largest node has {most:g}; ask for less", param=param
        )

    async def forecast(self, asked: ResourcesBlock, priority: int) -> Forecast:
        """Say whether a job fits, starts at once, or waits, and behind how many."""
        nodes = await self._nodes()
        fits = any(_holds(node, asked) for node in nodes)
        async with pool_view(self._session):
            ahead = await self._session.scalar(
                select(func.count())
                .select_from(JobRow)
                .where(JobRow.state == JobState.QUEUED, JobRow.priority >= priority)
            )
            used = await self._used()
        free = any(
            node.cpus - used.get(node.name, (0, 0, 0))[0] >= asked.cpus
            and node.memory_bytes - used.get(node.name, (0, 0, 0))[1] >= asked.memory_gb * BYTES_PER_GB
            and len(node.gpu_ids) - used.get(node.name, (0, 0, 0))[2] >= asked.gpus
            for node in nodes
        )
        messages: list[str] = []
        if not nodes:
            messages.append("no node has reported yet; the job would wait for the first")
        elif not fits:
            field, most, wanted = _shortage(nodes, asked)
            messages.append(
                f"{self._within}resources.{field}: {wanted:g} asked for, the largest node has {most:g}"
            )
        return Forecast(fits, free and not ahead, (ahead or 0) + 1, tuple(messages))

    async def _nodes(self) -> list[NodeRow]:
        return list(await self._session.scalars(select(NodeRow)))

    async def _used(self) -> dict[str, tuple[int, int, int]]:
        rows = await self._session.scalars(select(AllocationRow))
        used: dict[str, tuple[int, int, int]] = {}
        for row in rows:
            cpus, memory, gpus = used.get(row.node, (0, 0, 0))
            used[row.node] = (cpus + row.cpus, memory + row.memory_bytes, gpus + len(row.gpu_ids))
        return used


def _holds(node: NodeRow, asked: ResourcesBlock) -> bool:
    return (
        node.cpus >= asked.cpus
        and node.memory_bytes >= asked.memory_gb * BYTES_PER_GB
        and len(node.gpu_ids) >= asked.gpus
    )


def _shortage(nodes: list[NodeRow], asked: ResourcesBlock) -> tuple[str, float, float]:
    """Return the field that is short, the most that a node has, and what was asked."""
    if asked.gpus > (most := max(len(node.gpu_ids) for node in nodes)):
        return "gpus", most, asked.gpus
    if asked.cpus > (most := max(node.cpus for node in nodes)):
        return "cpus", most, asked.cpus
    return "memory_gb", max(node.memory_bytes for node in nodes) / BYTES_PER_GB, asked.memory_gb
