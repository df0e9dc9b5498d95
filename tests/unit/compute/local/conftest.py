"""Attempts' folders, and the promise that no test leaves a process behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.compute.local.executor import LocalExecutor
from steelyard.compute.local.sweep import stop_all


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "attempts"
    folder.mkdir()
    yield folder
    stop_all(folder, 0.0)


@pytest.fixture
def executor() -> LocalExecutor:
    return LocalExecutor()
