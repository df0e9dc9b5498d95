"""A small platform for tests: real PostgreSQL, Temporal and MLflow as asked, stand-ins for our own processes.

`python -m tests.contract.embedded_standins up|down|status|doctor ...` behaves like the CLI. The stand-in api
has a helper process in its session that ignores SIGTERM, as an api's own workers may; the stand-in worker
starts a trainer in a session of its own, which must outlive everything but `down`.
"""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from steelyard.server.embedded.__main__ import main as run_command
from steelyard.server.embedded.folders import socket_folder
from steelyard.server.embedded.mlflow import mlflow_spec
from steelyard.server.embedded.platform import Platform, foreign_environment
from steelyard.server.embedded.ports import claim_ports
from steelyard.server.embedded.postgres import postgres_spec
from steelyard.server.embedded.postgres_place import choose_place
from steelyard.server.embedded.probes import http_probe
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.embedded.supervisor import main as run_supervisor
from steelyard.server.embedded.temporal import temporal_spec
from steelyard.server.home import HomeLayout, PlatformAddresses
from steelyard.server.settings import Settings

OUTSIDE_VARIABLE = "STANDIN_OUTSIDE"
WITH_VARIABLE = "STANDIN_WITH"
BROKEN_VARIABLE = "STANDIN_BROKEN"
_SELF = (sys.executable, "-m", "tests.contract.embedded_standins")
_HELPER = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def compose(layout: HomeLayout, settings: Settings) -> Platform:
    """Describe the platform that `STANDIN_WITH` asks for."""
    ports = claim_ports(layout, settings.api_port, settings.workers)
    wanted = os.environ.get(WITH_VARIABLE, "").split()
    place = choose_place(layout, Path(os.environ[OUTSIDE_VARIABLE]))
    foreign, ours = foreign_environment(), dict(os.environ)
    socket = socket_folder(layout) / "mlflow.sock"
    processes = [
        postgres_spec(layout, place, foreign),
        ProcessSpec(
            name="api",
            argv=(*_SELF, "serve-api", str(ports["api"])),
            environment=ours,
            probe=http_probe("/healthz", port=ports["api"]),
            depends_on=("postgres",),
        ),
        ProcessSpec(name="worker-1", argv=(*_SELF, "serve-worker"), environment=ours, stop_phase=0),
    ]
    if "temporal" in wanted:
        processes.append(temporal_spec(layout, ports, foreign))
    if "mlflow" in wanted:
        processes.append(mlflow_spec(layout, socket, ours, embedded_database=True))
    addresses = PlatformAddresses(
        api_url=f"http://127.0.0.1:{ports['api']}",
        api_host="127.0.0.1",
        api_port=ports["api"],
        temporal_address=f"127.0.0.1:{ports['temporal']}",
        temporal_namespace="default",
        temporal_http_port=ports["temporal_http"],
        supervisor_metrics_port=ports["supervisor_metrics"],
        postgres_socket_dir=place.sockets,
        mlflow_url=f"http://127.0.0.1:{ports['api']}/mlflow",
        mlflow_socket=socket,
    )
    return Platform(addresses, tuple(processes), (f"data in {place.data}",))


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


def _serve_api(port: int) -> None:
    if os.environ.get(BROKEN_VARIABLE):
        sys.exit("the stand-in is broken on purpose")
    with subprocess.Popen([sys.executable, "-S", "-c", _HELPER]):
        ThreadingHTTPServer(("127.0.0.1", port), _Api).serve_forever()


def _serve_worker() -> None:
    trainer = Path(os.environ["STEELYARD_HOME"]) / "trainer.pid"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if not trainer.exists():
        # Its parent ends at once, so that nobody here has to reap it.
        script = 'sleep 600 & echo $! > "$0"'
        subprocess.run(["/bin/sh", "-c", script, str(trainer)], start_new_session=True, check=True)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["supervise", *_]:
            sys.exit(run_supervisor(compose))
        case ["serve-api", port]:
            _serve_api(int(port))
        case ["serve-worker"]:
            _serve_worker()
        case arguments:
            sys.exit(run_command(arguments, (*_SELF, "supervise")))
