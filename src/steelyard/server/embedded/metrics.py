"""`/metrics` of the supervisor: how each of its processes is, and what it uses."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import psutil
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from steelyard.compute.local.figures import as_response
from steelyard.server.embedded.state import ProcessRecord, ProcessState

_PATIENCE_SECONDS = 5.0
_BROKEN_OFF = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class ProcessFigures(Collector):
    """Figures of the processes that `records` tells of, read at each scrape."""

    def __init__(self, records: Callable[[], Iterable[ProcessRecord]]) -> None:
        self._records = records

    def collect(self) -> Iterable[Metric]:
        """Return one family a figure, labelled by process."""
        up = GaugeMetricFamily("steelyard_process_up", "1 where the process runs.", labels=["process"])
        restarts = CounterMetricFamily(
            "steelyard_process_restarts", "Starts after the first.", labels=["process"]
        )
        memory = GaugeMetricFamily(
            "steelyard_process_resident_bytes", "Resident memory of the main process.", labels=["process"]
        )
        cpu = CounterMetricFamily(
            "steelyard_process_cpu_seconds", "User and system time of the main process.", labels=["process"]
        )
        for record in self._records():
            up.add_metric([record.name], float(record.state is ProcessState.RUNNING))
            restarts.add_metric([record.name], record.restarts)
            with contextlib.suppress(psutil.Error):
                if record.identity is not None:
                    process = psutil.Process(record.identity.pid)
                    times = process.cpu_times()
                    memory.add_metric([record.name], process.memory_info().rss)
                    cpu.add_metric([record.name], times.user + times.system)
        return (up, restarts, memory, cpu)


async def serve_figures(port: int, records: Callable[[], Iterable[ProcessRecord]]) -> asyncio.Server:
    """Listen on a local port. The caller closes the server.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(ProcessFigures(records))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*_BROKEN_OFF):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(as_response(generate_latest(registry)))
                await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)
