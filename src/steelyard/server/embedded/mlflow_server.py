"""`python -m steelyard.server.embedded.mlflow_server`: MLflow on a unix socket.

Runs the app in this process, because MLflow's own command imports everything twice, and keeps the database's
password out of argv and out of the environment that `/proc` shows. The schema is made or brought up to date
first; both are repeated safely after a crash.
"""

# MLflow ships no complete types, and its schema functions have no public form outside of its CLI.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# ruff: noqa: PLC0415 - MLflow takes ten seconds to import and reads its environment while it does

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from sqlalchemy import URL, create_engine, make_url, text

from steelyard.server.embedded.mlflow import SOCKET_VARIABLE
from steelyard.server.embedded.mlflow_artifacts import DESTINATION, artifacts_in_bucket
from steelyard.server.home import (
    MLFLOW_DATABASE,
    MLFLOW_PREFIX,
    MLFLOW_ROLE,
    HomeLayout,
    embedded_dsn,
)
from steelyard.server.settings import Settings

DSN_VARIABLE = "STEELYARD_MLFLOW_DSN"
_ARTIFACT_ROUTES = ("/api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/mlflow-artifacts/artifacts")
# log_batch holds one connection and asks for a second, in each of 40 threads: a pool of 15 locks up.
_POOL_SIZE = "60"
_SCHEMA = "mlflow"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    layout = HomeLayout(settings.home)
    database = backend_url(layout, settings)
    url = database.render_as_string(hide_password=False)
    if settings.database_dsn:
        _make_schema(database)
    os.environ.update(_settings(layout, url))
    _bring_schema_up_to_date(url)
    from mlflow.server.fastapi_app import app

    uvicorn.run(
        strip_artifact_prefix(app),
        uds=os.environ[SOCKET_VARIABLE],
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


def strip_artifact_prefix(app: App) -> App:
    """Let uploads and downloads reach MLflow's streaming routes, which it mounts without its own prefix.

    Under the prefix they would fall to its older routes, which hold a whole file in memory.
    """
    prefixed = tuple(MLFLOW_PREFIX + route for route in _ARTIFACT_ROUTES)

    async def stripped(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.startswith(prefixed):
            scope = {**scope, "path": path.removeprefix(MLFLOW_PREFIX)}
            scope["raw_path"] = scope["raw_path"].removeprefix(MLFLOW_PREFIX.encode())
        await app(scope, receive, send)

    return stripped


def backend_url(layout: HomeLayout, settings: Settings) -> URL:
    """Return MLflow's database: the one that `STEELYARD_MLFLOW_DSN` names; or else a schema of its own in an
    existing server's database; or else a database of its own in the embedded server.
    """
    if named := os.environ.get(DSN_VARIABLE):
        return _with_driver(named)
    if settings.database_dsn:
        url = _with_driver(settings.database_dsn)
        return url.update_query_dict({"options": f"-csearch_path={_SCHEMA}"})
    return _with_driver(embedded_dsn(layout, MLFLOW_ROLE, MLFLOW_DATABASE, layout.mlflow_password))


def _with_driver(dsn: str) -> URL:
    # Named in full: SQLAlchemy's choice of driver for a bare `postgresql` depends on its version.
    return make_url(dsn).set(drivername="postgresql+psycopg2")


def _settings(layout: HomeLayout, url: str) -> dict[str, str]:
    """Return what MLflow's own command line would put into the environment of its workers."""
    layout.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    artifacts = artifacts_in_bucket() or {DESTINATION: layout.mlflow_artifacts.as_uri()}
    return {
        "_MLFLOW_SERVER_FILE_STORE": url,
        "_MLFLOW_SERVER_REGISTRY_STORE": url,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        **artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_STATIC_PREFIX": MLFLOW_PREFIX,
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": _POOL_SIZE,
        # Only the api's proxy can reach the socket, and it has checked the caller already.
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _make_schema(database: URL) -> None:
    engine = create_engine(database)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
    finally:
        engine.dispose()


def _bring_schema_up_to_date(url: str) -> None:
    import mlflow.store.db.utils as schema

    engine = schema.create_sqlalchemy_engine_with_retry(url)
    try:
        if schema._is_empty_database(engine) or not schema._get_schema_version(engine):
            schema._initialize_tables(engine)
        elif schema._get_schema_version(engine) != schema._get_latest_schema_revision():
            schema._upgrade_db(engine)
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
