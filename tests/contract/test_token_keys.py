"""Keys that sign tokens rotate: what was signed before stays good for as long as it can be, and no longer."""

import asyncio
import json
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.e2e.specs import script_spec

from steelyard.governance.identity import LONGEST_SESSION, AttemptTokens, FixedKey, SessionTokens
from steelyard.kit.errors import Unauthenticated
from steelyard.server import keys, rotation
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.home import HomeLayout
from steelyard.storage.database import Database
from steelyard.storage.encryption import read_keys


@dataclass
class Rotating:
    """A home with a database, and the command that an operator runs at the moment `now`."""

    plane: ControlPlane
    layout: HomeLayout
    capsys: pytest.CaptureFixture[str]
    now: datetime

    async def run(self, *arguments: str) -> dict[str, Any]:
        """Run `steelyard keys`."""
        self.capsys.readouterr()
        assert await asyncio.to_thread(rotation.main, [*arguments, "--json"]) == 0
        told: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return told

    async def attempt(self) -> str:
        """Start an attempt."""
        job = await self.plane.services.submission.submit(
            ADMIN, "default", json.dumps(script_spec("a")).encode(), None
        )
        await self.plane.admit(job.job_id)
        started = await self.plane.lifecycle.start_attempt(job.job_id, 0, "0:1", "train")
        assert started.attempt_id
        return started.attempt_id


@pytest.fixture
async def rotating(
    database: Database,
    database_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncGenerator[Rotating]:
    layout = HomeLayout(tmp_path / "home")
    prepare_home(layout)
    make_secrets(layout)
    monkeypatch.setenv("STEELYARD_HOME", str(layout.root))
    monkeypatch.setenv("STEELYARD_DATABASE_DSN", database_dsn)
    async with serve(database, database_dsn, tmp_path) as plane:
        found = Rotating(plane, layout, capsys, datetime.now(UTC))
        monkeypatch.setattr(rotation, "utc_now", lambda: found.now)
        yield found


async def test_old_tokens_stay_good_and_new_ones_have_the_new_key(rotating: Rotating) -> None:
    attempts, sessions = keys.attempt_tokens(rotating.layout), keys.session_tokens(rotating.layout)
    tickets, webhooks = keys.login_tickets(rotating.layout), keys.webhook_secrets(rotating.layout)
    before = (attempts.issue("att_1"), sessions.issue("ada", 3600))
    ticket, secret = tickets.issue("login", {"state": "x"}, 600), webhooks.secret_of("whk_1")

    fresh = (await rotating.run("rotate"))["token_key"]

    assert attempts.attempt_of(before[0]) == "att_1"
    signed_in = sessions.session_of(before[1])
    assert signed_in
    assert signed_in.principal_id == "ada"
    assert tickets.read("login", ticket)["state"] == "x"
    after = (attempts.issue("att_1"), sessions.issue("ada", 3600))
    assert all(f".{fresh}." in token for token in after)
    assert attempts.attempt_of(after[0]) == "att_1"
    assert keys.webhook_secrets(rotating.layout).secret_of("whk_1") == secret
    assert stat.S_IMODE(rotating.layout.webhook_key.stat().st_mode) == 0o600


async def test_tokens_of_before_keys_had_names_are_good(rotating: Rotating) -> None:
    attempts, sessions = keys.attempt_tokens(rotating.layout), keys.session_tokens(rotating.layout)
    old_attempt = attempts.issue("att_1").replace(".k1.", ".")
    old_session = sessions.issue("ada", 3600).replace(".k1.", ".")
    await rotating.run("rotate")
    assert attempts.attempt_of(old_attempt) == "att_1"
    assert sessions.session_of(old_session) is not None


async def test_a_key_goes_once_no_session_that_it_signed_can_be_good(rotating: Rotating) -> None:
    await rotating.run("rotate", "--retire")
    rotated_at = rotating.now
    assert "sessions, until" in (await rotating.run("list"))["token_keys"][0]["kept_for"]
    rotating.now = rotated_at + LONGEST_SESSION
    assert (await rotating.run("rotate", "--retire"))["token_keys_retired"] == []
    token = keys.session_tokens(rotating.layout).issue("ada", 3600)
    rotating.now = rotated_at + LONGEST_SESSION + timedelta(minutes=2)
    told = await rotating.run("rotate", "--retire")
    assert told["token_keys_retired"] == ["k1"]
    assert len(read_keys(rotating.layout.token_key)) == 3
    assert keys.session_tokens(rotating.layout).session_of(token)


async def test_a_key_stays_while_an_attempt_runs_that_has_its_token(rotating: Rotating) -> None:
    attempt = await rotating.attempt()
    token = keys.attempt_tokens(rotating.layout).issue(attempt)
    await rotating.run("rotate")
    rotating.now += LONGEST_SESSION * 30
    assert (await rotating.run("rotate", "--retire"))["token_keys_retired"] == []
    assert (await rotating.run("list"))["token_keys"][0] == {
        "id": "k1", "kept_for": "1 attempts that run since before",
    }  # fmt: skip
    assert keys.attempt_tokens(rotating.layout).attempt_of(token) == attempt
    async with rotating.plane.workers.transaction() as session:
        await session.execute(text("UPDATE attempts SET state = 'ended'"))
    assert "k1" in (await rotating.run("rotate", "--retire"))["token_keys_retired"]
    assert keys.attempt_tokens(rotating.layout).attempt_of(token) is None


async def test_after_a_theft_all_older_keys_go_at_once(rotating: Rotating) -> None:
    sessions, webhooks = keys.session_tokens(rotating.layout), keys.webhook_secrets(rotating.layout)
    tickets = keys.login_tickets(rotating.layout)
    token, secret = sessions.issue("ada", 3600), webhooks.secret_of("whk_1")
    ticket = tickets.issue("login", {}, 600)
    told = await rotating.run("rotate", "--retire", "--end-tokens")
    assert told["token_keys_retired"] == ["k1"]
    assert sessions.session_of(token) is None
    with pytest.raises(Unauthenticated):
        tickets.read("login", ticket)
    assert keys.webhook_secrets(rotating.layout).secret_of("whk_1") == secret
    assert list(read_keys(rotating.layout.token_key)) == [told["token_key"]]


@pytest.mark.parametrize("key_id", ["", "k2", "k1.k1", "k1 ", "../k1"])
def test_a_signature_counts_under_the_key_that_it_names(key_id: str) -> None:
    attempts, sessions = AttemptTokens(FixedKey(b"a" * 32)), SessionTokens(FixedKey(b"a" * 32))
    forged = attempts.issue("att_1").replace(".k1.", f".{key_id}.")
    assert attempts.attempt_of(forged) is None
    assert sessions.session_of(sessions.issue("ada", 60).replace(".k1.", f".{key_id}.")) is None
    assert AttemptTokens(FixedKey(b"b" * 32)).attempt_of(attempts.issue("att_1")) is None


async def test_it_stands_in_the_audit_trail(rotating: Rotating) -> None:
    told = await rotating.run("rotate")
    async with rotating.plane.database.transaction() as session:
        detail = await session.scalar(text("SELECT detail FROM audit_log WHERE verb = 'keys.rotate'"))
    assert detail == told
