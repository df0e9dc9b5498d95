"""One platform for all tests of this folder; every test leaves it running."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.datasets import seed_sums
from tests.e2e.platform import LivePlatform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """A running platform with a small dataset, `sums`."""
    live = LivePlatform(Path(os.path.realpath(tmp_path_factory.mktemp("home"))))
    live.up()
    seed_sums(live)
    yield live
    live.down()
