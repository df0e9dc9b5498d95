"""Every executor against the one contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.compute.conformance import ExecutorConformance
from steelyard.compute.executor import Executor
from steelyard.compute.local.executor import LocalExecutor
from steelyard.compute.local.sweep import stop_all


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "attempts"
    folder.mkdir()
    yield folder
    assert stop_all(folder, 0.0) == [], "a test left an attempt running"


class TestLocalExecutorAfresh(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return LocalExecutor()


class TestLocalExecutorByForkServer(ExecutorConformance):
    @pytest.fixture
    def executor(self, forkserver: Path) -> Executor:
        return LocalExecutor(forkserver)
