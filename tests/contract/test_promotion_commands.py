"""The command line of promotions against a real api; a task does what the workflow does."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.control_plane import ADMIN, ADMIN_TOKEN, ControlPlane, serve
from tests.shelf import evaluate, shelve

from steelyard.cli import main as cli
from steelyard.rollouts.promotion import PromotionService
from steelyard.specs.promotions import OPEN_STATES
from steelyard.storage.database import Database
from steelyard.storage.tables import PromotionRow

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
        carrying = asyncio.create_task(_carry_on(database))
        yield plane
        carrying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await carrying


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: str, code: int = 0, as_json: bool = True) -> Any:
        capsys.readouterr()
        words = [*arguments, "--json"] if as_json else list(arguments)
        ended = await asyncio.to_thread(cli.main, words)
        out, err = capsys.readouterr()
        out = "\n".join(line for line in out.splitlines() if not _LOG_LINE.match(line))
        assert ended == code, err
        return json.loads(out) if as_json and code == 0 else out + err

    return run


async def _carry_on(database: Database) -> None:
    service = PromotionService(database)
    while True:
        async with database.transaction() as session:
            query = select(PromotionRow.id).where(PromotionRow.state.in_(OPEN_STATES))
            ids = list(await session.scalars(query))
        for promotion in ids:
            await service.check(promotion)
            await service.settle(promotion)
        await asyncio.sleep(0.05)


async def test_a_version_goes_to_staging_and_back(plane: ControlPlane, run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        await evaluate(plane.database, await shelve(plane, tmp_path, by=ADMIN), 0.9)
    gate = await run("gates", "set", "smoke/accuracy", "--to", "staging", "--min", "0.8")
    assert gate["gate"] == {"metric": "smoke/accuracy", "min": 0.8}
    assert [each["id"] for each in (await run("gates", "list"))["data"]] == [gate["id"]]

    assert (await run("models", "promote", "chat@1", "--to", "dev"))["state"] == "promoted"
    asked = await run("models", "promote", "chat@1", "--to", "staging")
    assert asked["state"] == "awaiting_approval"
    assert [each["id"] for each in (await run("approvals", "list"))["data"]] == [asked["id"]]
    shown = await run("approvals", "show", asked["id"], as_json=False)
    assert "smoke/accuracy" in shown
    assert "0.9" in shown
    done = await run("approvals", "approve", asked["id"], "--reason", "good enough")
    assert done["state"] == "promoted"
    assert done["decisions"][0]["notes"]

    for alias, command in (("dev", "promote"), ("staging", "promote")):
        asked = await run("models", command, "chat@2", "--to", alias)
    await run("approvals", "approve", asked["id"])
    back = await run("models", "rollback", "chat", "--alias", "staging", "--reason", "too bold")
    assert (back["from_version"], back["to_version"]) == (2, 1)
    moves = (await run("models", "history", "chat", "--alias", "staging"))["data"]
    assert [move["kind"] for move in moves] == ["rollback", "promotion", "promotion"]
    then = await run("models", "history", "chat", "--alias", "staging", "--at", moves[1]["at"])
    assert then["to_version"] == 2
    listed = (await run("models", "list"))["data"]
    assert listed[0]["aliases"] == {"dev": 2, "staging": 1}
    table = await run("models", "versions", "chat", as_json=False)
    assert "staging" in table


async def test_what_is_refused_says_why_and_what_to_do(plane: ControlPlane, run: Run, tmp_path: Path) -> None:
    await shelve(plane, tmp_path, by=ADMIN)
    await run("gates", "set", "smoke/accuracy", "--to", "dev", "--min", "0.8")
    said = await run("models", "promote", "chat@1", "--to", "staging", code=5, as_json=False)
    assert "--to dev" in said
    refused = await run("models", "promote", "chat@1", "--to", "dev", code=1, as_json=False)
    assert "smoke/accuracy was not measured" in refused
    assert "eval_only" in refused
    assert "no version" in await run("models", "rollback", "chat", code=5, as_json=False)


async def test_policies_freezes_and_webhooks_are_set_and_taken_away(plane: ControlPlane, run: Run) -> None:
    held = await run("policies", "set", "prod", "--approvers", "3")
    assert held["policy"]["approvers"] == 3
    await run("policies", "remove", "prod", as_json=False)
    assert {each["policy"]["approvers"] for each in (await run("policies", "list"))["data"]} == {0, 1, 2}
    span = ("--from", "2020-01-01T00:00:00Z", "--until", "2999-01-01T00:00:00Z")
    frozen = await run("freezes", "add", "--reason", "for ever", *span)
    assert frozen["active"]
    weekly = await run(
        "freezes", "add", "--reason", "nights", "--day", "friday", "--hours", "18:00-08:00",
        "--time-zone", "Europe/Berlin", "--organization", "default",
    )  # fmt: skip
    assert weekly["scope"] == "organization"
    await run("freezes", "remove", frozen["id"], as_json=False)
    assert "organization" in await run("freezes", "list", as_json=False)
    hook = await run("webhooks", "add", "https://example.com/hook", "--event", "promotion.*")
    assert hook["secret"].startswith("whsec_")
    assert (await run("webhooks", "list"))["data"][0]["secret"] is None
    assert (await run("webhooks", "deliveries", hook["id"]))["data"] == []
    await run("webhooks", "remove", hook["id"], as_json=False)
    assert "https" in await run("webhooks", "add", "http://example.com", code=2, as_json=False)
    assert plane.url
