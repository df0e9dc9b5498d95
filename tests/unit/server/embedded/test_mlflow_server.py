from pathlib import Path
from typing import Any

import pytest

from steelyard.server.embedded.mlflow_server import DSN_VARIABLE, backend_url, strip_artifact_prefix
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mlflow/api/2.0/mlflow-artifacts/artifacts/0/a", "/api/2.0/mlflow-artifacts/artifacts/0/a"),
        ("/mlflow/ajax-api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/mlflow-artifacts/artifacts"),
        ("/mlflow/api/2.0/mlflow/runs/create", "/mlflow/api/2.0/mlflow/runs/create"),
        ("/mlflow/", "/mlflow/"),
    ],
)
async def test_streams_of_artifacts_lose_the_prefix_and_nothing_else_does(path: str, expected: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append((scope["path"], scope["raw_path"]))

    async def nothing(*_: Any) -> Any:
        return None

    scope = {"type": "http", "path": path, "raw_path": path.encode()}
    await strip_artifact_prefix(app)(scope, nothing, nothing)
    assert seen == [(expected, expected.encode())]


def test_an_existing_server_gives_mlflow_a_schema_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, database_dsn="postgresql://me:secret@db/steelyard?sslmode=require")
    url = backend_url(HomeLayout(tmp_path), settings)
    assert url.drivername == "postgresql+psycopg2"
    assert url.query == {"sslmode": "require", "options": "-csearch_path=mlflow"}
    monkeypatch.setenv(DSN_VARIABLE, "postgresql://other@db/mlflow")
    assert backend_url(HomeLayout(tmp_path), settings).database == "mlflow"
    assert not backend_url(HomeLayout(tmp_path), settings).query
