"""The command line of projects, people, service accounts and tokens against a real api."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.control_plane import ADMIN_TOKEN, ControlPlane, serve

from steelyard.cli import main as cli
from steelyard.storage.database import Database

Run = Callable[..., Awaitable[Any]]
_LOG_LINE = re.compile(r"\S*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \[")
"""Of the api, which shares this process's standard output."""


@pytest.fixture
async def plane(
    database: Database, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        monkeypatch.setenv("STEELYARD_API_URL", plane.url)
        monkeypatch.setenv("STEELYARD_TOKEN", ADMIN_TOKEN)
        monkeypatch.delenv("STEELYARD_PROJECT", raising=False)
        yield plane


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: str, fails: bool = False, as_json: bool = True) -> Any:
        capsys.readouterr()
        words = [*arguments, "--json"] if as_json else list(arguments)
        ended = await asyncio.to_thread(cli.main, words)
        out, err = capsys.readouterr()
        out = "\n".join(line for line in out.splitlines() if not _LOG_LINE.match(line))
        assert (ended != 0) == fails, err
        return json.loads(out) if as_json and not fails else out + err

    return run


async def test_a_team_is_set_up_and_taken_down(
    plane: ControlPlane, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await run("whoami"))["is_local_admin"]
    assert (await run("organizations", "create", "acme"))["roles"] == ["owner"]
    assert (await run("projects", "create", "support", "--organization", "acme"))["id"] == "support"
    assert (await run("users", "create", "ada@example.com"))["id"] == "ada@example.com"
    await run("members", "grant", "ada@example.com", "developer", "--project", "support")
    made = await run("tokens", "create", "laptop", "--user", "ada@example.com", "--days", "3")
    monkeypatch.setenv("STEELYARD_TOKEN", made["secret"])
    me = await run("whoami")
    assert (me["id"], [each["id"] for each in me["projects"]]) == ("ada@example.com", ["support"])
    said = await run("users", "list", fails=True)
    assert "organization.read" in said
    narrow = await run("tokens", "create", "ci", "--project", "support", "--permission", "job.read",
                       "--days", "2")  # fmt: skip
    assert (narrow["projects"], narrow["permissions"]) == (["support"], ["job.read"])
    assert (await run("tokens", "revoke", narrow["id"]))["revoked_at"]
    assert "laptop" in await run("tokens", "list", as_json=False)
    monkeypatch.setenv("STEELYARD_TOKEN", ADMIN_TOKEN)
    assert (await run("members", "list", "--project", "support"))["data"][0]["roles"] == ["developer"]
    gone = await run("members", "revoke", "ada@example.com", "developer", "--project", "support")
    assert gone["holds"] is False
    assert (await run("users", "disable", "ada@example.com"))["disabled_at"]
    assert (await run("users", "enable", "ada@example.com"))["disabled_at"] is None
    assert (await run("users", "delete", "ada@example.com"))["deleted_at"]
    assert "deleted" in await run("users", "list", as_json=False)
    assert (await run("projects", "archive", "support"))["archived_at"]
    assert "archived" in await run("projects", "list", as_json=False)
    assert (await run("projects", "restore", "support"))["archived_at"] is None


async def test_programs_and_groups(plane: ControlPlane, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await run("service-accounts", "create", "ci"))["id"] == "ci@default"
    await run("members", "grant", "ci@default", "developer")
    await run("members", "grant", "ci@default", "auditor")
    made = await run("tokens", "create", "pipeline", "--service-account", "ci")
    assert [each["id"] for each in (await run("tokens", "list", "--service-account", "ci"))["data"]] == [
        made["id"]
    ]
    monkeypatch.setenv("STEELYARD_TOKEN", made["secret"])
    assert "ci@default (service account" in await run("whoami", as_json=False)
    monkeypatch.setenv("STEELYARD_TOKEN", ADMIN_TOKEN)
    mapped = await run("groups", "map", "ml", "viewer", "--issuer", "https://id", "--project", "default")
    assert "ml" in await run("groups", "list", as_json=False)
    assert (await run("groups", "unmap", mapped["id"]))["removed"]
    assert (await run("service-accounts", "disable", "ci"))["disabled_at"]
    assert (await run("service-accounts", "enable", "ci"))["disabled_at"] is None
    assert (await run("service-accounts", "delete", "ci"))["deleted_at"]
    assert "deleted" in await run("service-accounts", "list", as_json=False)
    assert "admin" in await run("whoami", as_json=False)
    assert "is no role" in await run("members", "grant", "ci@default", "king", fails=True)
