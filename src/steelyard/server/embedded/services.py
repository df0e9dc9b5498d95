"""Our own processes: the migration, the api, the workers, and the fork server that training starts from."""

import asyncio
import importlib.util
import sys
from pathlib import Path

from steelyard.kit.home import HOME_VARIABLE
from steelyard.kit.tls import TlsClient
from steelyard.server.embedded.ports import FORKSERVER_METRICS, worker_metrics
from steelyard.server.embedded.probes import http_probe, socket_probe
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.home import HomeLayout

METRICS_PORT_VARIABLE = "STEELYARD_METRICS_PORT"
WORKER_VARIABLE = "STEELYARD_WORKER"
_STEADY_SECONDS = 0.5


def migrate_spec(layout: HomeLayout, environment: dict[str, str], *, embedded_database: bool) -> ProcessSpec:
    """Describe the database migration: runs to its end before the api and the workers start."""
    return ProcessSpec(
        name="migrate",
        argv=(sys.executable, "-m", "steelyard.server.migrate"),
        environment=environment | {HOME_VARIABLE: str(layout.root)},
        depends_on=("postgres",) if embedded_database else (),
        once=True,
        stop_phase=1,
    )


def api_spec(
    layout: HomeLayout, port: int, environment: dict[str, str], tls: TlsClient | None = None
) -> ProcessSpec:
    """Describe the api. It doesn't wait for Temporal: submissions go to the outbox meanwhile."""
    return ProcessSpec(
        name="api",
        argv=(sys.executable, "-m", "steelyard.server.api"),
        environment=environment | {HOME_VARIABLE: str(layout.root), "STEELYARD_API_PORT": str(port)},
        probe=http_probe("/healthz", port=port, tls=tls),
        depends_on=("migrate",),
        stop_phase=1,
    )


def worker_spec(
    layout: HomeLayout, number: int, ports: dict[str, int], environment: dict[str, str]
) -> ProcessSpec:
    """Describe the worker `number`, from 1."""
    own = {
        HOME_VARIABLE: str(layout.root),
        WORKER_VARIABLE: str(number),
        METRICS_PORT_VARIABLE: str(ports[worker_metrics(number)]),
    }
    return ProcessSpec(
        name=f"worker-{number}",
        argv=(sys.executable, "-m", "steelyard.server.worker"),
        environment=environment | own,
        probe=_stays_alive,
        # The api answers first, whatever the workers have to do.
        niceness=5,
        depends_on=("migrate",),
        stop_grace_seconds=20.0,
        stop_phase=0,
    )


def forkserver_spec(
    layout: HomeLayout, socket: Path, ports: dict[str, int], environment: dict[str, str]
) -> ProcessSpec:
    """Describe the fork server, disabled where training isn't installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    reason = f"{' and '.join(missing)} not installed; `pip install 'steelyard[train]'`" if missing else None
    return ProcessSpec(
        name="forkserver",
        argv=(
            *(sys.executable, "-m", "steelyard.compute.local.forkserver", "--socket", str(socket)),
            *("--metrics-port", str(ports[FORKSERVER_METRICS])),
        ),
        environment=environment | {HOME_VARIABLE: str(layout.root)},
        probe=socket_probe(socket),
        yields_to=("api", "worker-1"),
        yield_seconds=15.0,
        essential=False,
        stop_phase=1,
        start_timeout_seconds=180.0,
        disabled=reason,
    )


async def _stays_alive() -> bool:
    # A worker has nothing to ask: one that can't work ends at once.
    await asyncio.sleep(_STEADY_SECONDS)
    return True
