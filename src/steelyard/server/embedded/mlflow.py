"""MLflow's process: one uvicorn on a unix socket, behind the api's proxy, in a database of its own.

It takes twenty seconds of one core to start, so it lets the api go first and nobody waits for it.
"""

import sys
from pathlib import Path

from steelyard.kit.home import HOME_VARIABLE
from steelyard.server.embedded.probes import http_probe
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.home import MLFLOW_PREFIX, HomeLayout

SOCKET_VARIABLE = "STEELYARD_MLFLOW_SOCKET"
_START_TIMEOUT_SECONDS = 300.0


def mlflow_spec(
    layout: HomeLayout, socket: Path, environment: dict[str, str], *, embedded_database: bool
) -> ProcessSpec:
    """Describe the server's process. It reads the database's password from its file."""
    return ProcessSpec(
        name="mlflow",
        argv=(sys.executable, "-m", "steelyard.server.embedded.mlflow_server"),
        environment=environment | {HOME_VARIABLE: str(layout.root), SOCKET_VARIABLE: str(socket)},
        probe=http_probe(f"{MLFLOW_PREFIX}/health", socket=socket),
        prepare=lambda: socket.unlink(missing_ok=True),
        depends_on=("postgres",) if embedded_database else (),
        yields_to=("api", "worker-1"),
        yield_seconds=15.0,
        niceness=5,
        essential=False,
        stop_phase=1,
        start_timeout_seconds=_START_TIMEOUT_SECONDS,
    )
