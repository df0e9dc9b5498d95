"""The node agent: says again and again that this machine is there, and what it has to give."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from steelyard.compute.local.node import LocalNode, detect_node
from steelyard.jobs.admission import AdmissionService
from steelyard.kit.errors import SteelyardError
from steelyard.server.settings import Settings

_NODE_SECONDS = 10.0
_BYTES_PER_GB = 10**9
_MEMORY_PART = 0.9
_log = structlog.get_logger()


@dataclass(frozen=True)
class Declared:
    """A node as it is reported."""

    name: str
    cpus: int
    memory_bytes: int
    gpu_ids: tuple[str, ...]
    flavor: str
    simulated: bool


async def report_nodes(settings: Settings, admission: AdmissionService) -> None:
    """Report this machine, or the nodes that it plays, until cancelled."""
    started_at = datetime.now(UTC)
    while True:
        node = await asyncio.to_thread(detect_node, settings.simulated_gpus)
        try:
            for each in declare(settings, node):
                await admission.report_node(
                    each.name,
                    "local",
                    each.cpus,
                    each.memory_bytes,
                    each.gpu_ids,
                    each.flavor,
                    simulated=each.simulated,
                    agent_started_at=started_at,
                )
        except SteelyardError as error:
            _log.warning("this node could not be reported", error=error.message)
        await asyncio.sleep(_NODE_SECONDS)


def declare(settings: Settings, node: LocalNode) -> Iterator[Declared]:
    """Yield what the machine is in the pool: one node, or some simulated ones that share it.

    A simulated node has a core for each of its GPUs, whether or not the machine has: its jobs share what
    there is, and take longer.
    """
    memory_gb = settings.local_memory_gb
    memory = int(memory_gb * _BYTES_PER_GB) if memory_gb else int(node.memory_bytes * _MEMORY_PART)
    cpus = settings.local_cpus or node.cpus
    if not node.gpus_simulated:
        flavor = "local-gpu" if node.gpu_ids else "local-cpu"
        yield Declared(node.name, cpus, memory, node.gpu_ids, flavor, simulated=False)
        return
    count = settings.simulated_nodes
    for number in range(count):
        yield Declared(
            name=node.name if number == 0 else f"{node.name}-{number + 1}",
            cpus=max(settings.local_cpus or 0, cpus // count, len(node.gpu_ids)),
            memory_bytes=memory // count,
            gpu_ids=node.gpu_ids,
            flavor=settings.simulated_flavor,
            simulated=True,
        )
