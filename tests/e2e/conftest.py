"""One platform for all tests of this folder; every test leaves it running."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.datasets import seed_sums
from tests.e2e.platform import LivePlatform


@pytest.fixture(scope="session")
def platform() -> Iterator[LivePlatform]:
    """A running platform with a small dataset, `sums`."""
    home = Path(tempfile.mkdtemp(prefix="steelyard-e2e-"))
    # Root's PostgreSQL runs as another user, who must be able to pass through.
    home.chmod(0o711)
    live = LivePlatform(home)
    try:
        live.up()
        seed_sums(live)
        yield live
    finally:
        live.down()
        shutil.rmtree(home, ignore_errors=True)
