"""Composition: which processes one home has, at which addresses, by its settings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steelyard.kit.home import HOME_VARIABLE
from steelyard.kit.tls import TlsClient
from steelyard.server.certificates import Certificates
from steelyard.server.embedded.folders import socket_folder
from steelyard.server.embedded.mlflow import mlflow_spec
from steelyard.server.embedded.ports import (
    API,
    FORKSERVER_METRICS,
    SUPERVISOR_METRICS,
    claim_ports,
    worker_metrics,
)
from steelyard.server.embedded.postgres import postgres_spec
from steelyard.server.embedded.postgres_place import PostgresPlace, choose_place
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.embedded.services import api_spec, forkserver_spec, migrate_spec, worker_spec
from steelyard.server.embedded.temporal import temporal_spec
from steelyard.server.home import MLFLOW_PREFIX, HomeLayout, PlatformAddresses
from steelyard.server.object_store import require_object_store
from steelyard.server.settings import Settings

_OWNERS_LOGIN = "STEELYARD_DATABASE_DSN"
_APIS_LOGIN = "STEELYARD_API_DATABASE_DSN"
_WORKERS_LOGIN = "STEELYARD_WORKER_DATABASE_DSN"
_FOREIGN_VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH", "TMPDIR", "GOMAXPROCS")


@dataclass(frozen=True)
class Platform:
    """What a supervisor runs. `notes` are facts that an operator should know."""

    addresses: PlatformAddresses
    processes: tuple[ProcessSpec, ...]
    notes: tuple[str, ...] = ()


Composer = Callable[[HomeLayout, Settings], Platform]
"""Makes the platform of a home, after its folders and secrets are there."""


def compose_platform(layout: HomeLayout, settings: Settings) -> Platform:
    """Choose ports, places and sockets, and describe every process.

    Raises:
        Conflict: the api's port is taken.
        BucketMisconfigured: the object store can't be used as it is set.
        Unavailable, PermissionDenied: PostgreSQL can't be run here.
    """
    require_object_store()
    foreign = foreign_environment()
    ours = {**os.environ, HOME_VARIABLE: str(layout.root), "PYTHONUNBUFFERED": "1"}
    ports = claim_ports(layout, settings.api_port, settings.workers)
    sockets = socket_folder(layout)
    place = None if settings.database_dsn else choose_place(layout)
    of_api = _with_login(ours, _APIS_LOGIN if settings.api_database_dsn else _OWNERS_LOGIN)
    of_workers = _with_login(ours, _WORKERS_LOGIN if settings.worker_database_dsn else _OWNERS_LOGIN)
    fork_server = forkserver_spec(layout, sockets / "forkserver.sock", ports, _with_login(ours, None))
    tls = _tls(layout, settings)
    addresses = _addresses(settings, ports, sockets, place, tls)
    if fork_server.disabled is None:
        found = {"forkserver_socket": sockets / "forkserver.sock"}
        addresses = addresses.model_copy(
            update=found | {"forkserver_metrics_port": ports[FORKSERVER_METRICS]}
        )
    embedded = place is not None
    processes = [
        migrate_spec(layout, ours, embedded_database=embedded),
        api_spec(layout, addresses.api_port, of_api, tls),
        mlflow_spec(layout, addresses.mlflow_socket, ours, embedded_database=embedded),
        fork_server,
        *(worker_spec(layout, number, ports, of_workers) for number in range(1, settings.workers + 1)),
    ]
    if not settings.temporal_address:
        processes.insert(0, temporal_spec(layout, ports, foreign))
    if place:
        processes.insert(0, postgres_spec(layout, place, foreign))
    return Platform(addresses, tuple(processes), _notes(place, layout, sockets))


def _with_login(ours: dict[str, str], login: str | None) -> dict[str, str]:
    """Return what a process gets of our environment: of the logins to the database this one alone."""
    others = {_OWNERS_LOGIN, _APIS_LOGIN, _WORKERS_LOGIN} - {login}
    return {name: value for name, value in ours.items() if name.upper() not in others}


def _tls(layout: HomeLayout, settings: Settings) -> TlsClient | None:
    if settings.tls == "off":
        return None
    mutual = settings.tls == "mutual"
    certificates = Certificates(settings.tls_folder or layout.certificates)
    certificates.require(client=mutual)
    return certificates.as_client(shows_certificate=mutual)


def foreign_environment() -> dict[str, str]:
    """Return what programs that aren't ours get of our environment: nothing that may hold a secret."""
    kept = {name: os.environ[name] for name in _FOREIGN_VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"}


def _addresses(
    settings: Settings,
    ports: dict[str, int],
    sockets: Path,
    place: PostgresPlace | None,
    tls: TlsClient | None,
) -> PlatformAddresses:
    scheme = "http" if settings.tls == "off" else "https"
    api_url = f"{scheme}://{settings.api_host}:{ports[API]}"
    embedded_temporal = settings.temporal_address is None
    return PlatformAddresses(
        api_url=api_url,
        api_host=settings.api_host,
        api_port=ports[API],
        temporal_address=settings.temporal_address or f"127.0.0.1:{ports['temporal']}",
        temporal_namespace=settings.temporal_namespace,
        temporal_http_port=ports["temporal_http"] if embedded_temporal else None,
        temporal_metrics_port=ports["temporal_metrics"] if embedded_temporal else None,
        temporal_ui_url=f"http://127.0.0.1:{ports['temporal_ui']}" if embedded_temporal else None,
        postgres_socket_dir=place.sockets if place else None,
        tls=tls,
        supervisor_metrics_port=ports[SUPERVISOR_METRICS],
        mlflow_url=f"{api_url}{MLFLOW_PREFIX}",
        mlflow_socket=sockets / "mlflow.sock",
        worker_metrics_ports=tuple(ports[worker_metrics(n)] for n in range(1, settings.workers + 1)),
    )


def _notes(place: PostgresPlace | None, layout: HomeLayout, sockets: Path) -> tuple[str, ...]:
    notes: list[str] = []
    if place and place.account and place.outside_home:
        notes.append(
            f"PostgreSQL's data is in {place.data}, because user {place.account.name}, as whom it runs when "
            f"started by root, can't reach {layout.root}"
        )
    if place and place.copied_binaries:
        notes.append(f"PostgreSQL runs from a copy of its binaries in {place.binaries}, for the same reason")
    if sockets != layout.run:
        notes.append(f"sockets are in {sockets}, because the path of the home is too long for them")
    return tuple(notes)
