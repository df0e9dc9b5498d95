"""A scripted server that the command line finds by its environment, and a way to run a command."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.scripted_api import QUICK, ScriptedApi, serve

from steelyard.cli import main as cli
from steelyard.cli import session


class Result(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which is one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Stderr, which is one error in the API's shape."""
        return json.loads(self.err)["error"]


Steelyard = Callable[..., Result]

SPEC = """\
api_version: steelyard/v1
type: fine_tune
name: support-tone
model: {name_or_path: builtin/tiny-random}
dataset: {ref: chats@v1}
training:
  max_steps: 60
  learning_rate: 2e-4
"""


@pytest.fixture(scope="session")
def server() -> Iterator[ScriptedApi]:
    with serve(ScriptedApi()) as scripted:
        yield scripted


@pytest.fixture
def api(server: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> ScriptedApi:
    server.reset()
    monkeypatch.setenv("STEELYARD_API_URL", server.url)
    monkeypatch.setenv("STEELYARD_TOKEN", "sy_secret")
    monkeypatch.delenv("STEELYARD_PROJECT", raising=False)
    monkeypatch.setattr(session, "RETRY_POLICY", QUICK)
    monkeypatch.setattr(session, "PERSISTENT_POLICY", QUICK)
    return server


@pytest.fixture
def steelyard(capsys: pytest.CaptureFixture[str]) -> Steelyard:
    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        assert "sy_secret" not in out + err
        return Result(code, out, err)

    return run


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(SPEC)
    return path
