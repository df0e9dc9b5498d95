"""Deriving from the command line: terms that can't be are answered by field, not with a traceback."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.contract.ingests import ingest, jsonl
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

from steelyard.storage.database import Database

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(30)]
_COMMAND = str(Path(sys.executable).with_name("steelyard"))


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


async def _run(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STEELYARD_API_URL": plane.url, "STEELYARD_TOKEN": ADMIN_TOKEN}
    return await asyncio.to_thread(
        subprocess.run,
        [_COMMAND, "data", *arguments, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_TERMS = {
    "": "give parent and where, or mix",
    "chats@v1": "a filter needs both parent and where",
    "--mix chats@v1=1": "a mix needs two versions or more",
    "--mix chats@v1=-1 --mix chats=1": "greater than 0",
    "chats@v1 --filter words>1 --rows 3": "rows bounds a mix",
    "none@v1 --filter words>1": "no dataset 'none@v1'",
    "chats@vx --filter words>1": "pattern",
}


async def test_terms_that_cant_be_are_answered(plane: ControlPlane) -> None:
    await ingest(plane, jsonl(_ROWS))
    for terms, said in _TERMS.items():
        done = await _run(plane, "derive", *terms.split(), "--name", "child")
        assert done.returncode not in (0, 1), (terms, done.stderr)
        assert "Traceback" not in done.stderr
        assert said in json.loads(done.stderr)["error"]["message"], terms
