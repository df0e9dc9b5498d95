"""Platforms for all tests of this folder; every test leaves them running."""

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


@pytest.fixture(scope="session")
def pool() -> Iterator[LivePlatform]:
    """A platform of its own with two GPUs that aren't there, and two projects with the same data."""
    home = Path(tempfile.mkdtemp(prefix="steelyard-pool-"))
    home.chmod(0o711)
    live = LivePlatform(home)
    try:
        started = live.run("up", "--simulate-gpus", "2", "--simulated-flavor", "sim")
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
        seed_sums(live)
        with live.client() as client:
            client.projects.create("owners")
        data = str(home / "sums.jsonl")
        live.json("data", "ingest", data, "--name", "sums", "--project", "owners")
        yield live
    finally:
        live.down()
        shutil.rmtree(home, ignore_errors=True)
