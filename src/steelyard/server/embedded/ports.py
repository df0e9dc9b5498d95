"""Ports on 127.0.0.1: found free once, remembered in the home, never taken from somebody silently."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from typing import cast

import psutil

from steelyard.kit.errors import Conflict, Unavailable
from steelyard.server.embedded.files import write_atomically
from steelyard.server.home import HomeLayout

API = "api"
SUPERVISOR_METRICS = "supervisor_metrics"
FORKSERVER_METRICS = "forkserver_metrics"
TEMPORAL = ("temporal", "temporal_http", "temporal_ui", "temporal_metrics")
# Below the range that Linux gives to outgoing connections (32768 and up), so that a port which is ours but
# not bound at the moment isn't handed to somebody else.
_FIRST_PORT = 18000
_PORT_COUNT = 10000


def worker_metrics(number: int) -> str:
    """Return the name of a worker's metrics port; workers count from 1."""
    return f"worker_{number}_metrics"


def claim_ports(layout: HomeLayout, api_port: int, workers: int) -> dict[str, int]:
    """Return a free port for each use, by name, and remember them.

    The api keeps its port, because running trainers know it. The others move if they must.

    Args:
        api_port: the user's choice; 0 leaves it to us.

    Raises:
        Conflict: somebody else listens on the api's port.
    """
    remembered = read_ports(layout)
    candidates = _candidates(layout, taken=set(remembered.values()) | {api_port})
    names = [*TEMPORAL, SUPERVISOR_METRICS, FORKSERVER_METRICS]
    names += [worker_metrics(number) for number in range(1, workers + 1)]
    ports = {API: _api_port(api_port or remembered.get(API, 0), candidates)}
    for name in names:
        known = remembered.get(name)
        ports[name] = known if known and is_free(known) else next(candidates)
    write_atomically(layout.ports_file, json.dumps(remembered | ports, indent=2).encode(), 0o644)
    return ports


def read_ports(layout: HomeLayout) -> dict[str, int]:
    """Return the ports that earlier starts chose; none if the file isn't there or is damaged."""
    try:
        parsed: object = json.loads(layout.ports_file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(parsed, Mapping):
        return {}
    entries = cast("Mapping[str, object]", parsed)
    return {name: port for name, port in entries.items() if isinstance(port, int)}


def is_free(port: int) -> bool:
    """Say whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def name_holder(port: int) -> str:
    """Say who listens on a port, as well as we may know it."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program (of another user, so its name isn't known)"


def _api_port(wanted: int, candidates: Iterator[int]) -> int:
    if not wanted:
        return next(candidates)
    if is_free(wanted):
        return wanted
    raise Conflict(
        f"port {wanted}, which the api uses, is taken by {name_holder(wanted)}; stop that, or choose another "
        "port with STEELYARD_API_PORT=<port> (trainers that run now report to the old one)"
    )


def _candidates(layout: HomeLayout, taken: set[int]) -> Iterator[int]:
    # Each home begins somewhere else, so that two that start at one moment don't meet.
    offset = int(layout.digest, 16)
    for step in range(_PORT_COUNT):
        port = _FIRST_PORT + (offset + step) % _PORT_COUNT
        if port not in taken and is_free(port):
            yield port
    raise Unavailable(
        f"no port from {_FIRST_PORT} to {_FIRST_PORT + _PORT_COUNT - 1} is free on 127.0.0.1; close programs "
        "that listen there"
    )
