"""Old tokens, wide grants, last owners, replays, demotions in the middle of a job, users who are gone."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from tests.control_plane import ControlPlane, serve
from tests.gpu_pool import HandClock

from steelyard.api.examples import FINE_TUNE_EXAMPLE
from steelyard.governance.identity import FixedKey, SessionTokens
from steelyard.kit.canonical import digest_json
from steelyard.kit.clock import utc_now
from steelyard.kit.errors import Unauthenticated
from steelyard.storage.database import Database
from steelyard.storage.tables import ApiTokenRow, AuditRow, JobRow, PrincipalRow

JOBS = "/v1/projects/alpha/jobs"


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
async def admin(plane: ControlPlane) -> AsyncGenerator[httpx.AsyncClient]:
    """The local admin, who has made organization `acme` with projects `alpha` and `beta`."""
    async with plane.http() as http:
        for path, body in (
            ("/v1/organizations", {"id": "acme"}),
            ("/v1/organizations/acme/projects", {"id": "alpha"}),
            ("/v1/organizations/acme/projects", {"id": "beta"}),
        ):
            made = await http.post(path, json=body)
            assert made.status_code == 201, made.text
        yield http


@dataclass(frozen=True)
class Made:
    """A token that was made with another, and a client that holds it."""

    id: str
    made_with: str | None
    http: httpx.AsyncClient


class People:
    """Makes users and gives them tokens and roles."""

    def __init__(self, plane: ControlPlane, admin: httpx.AsyncClient) -> None:
        self._plane = plane
        self._admin = admin
        self.clients: list[httpx.AsyncClient] = []

    async def make(self, name: str, *roles: str, **bounds: Any) -> httpx.AsyncClient:
        """Make `name@example.com` with roles as `alpha/developer` or `organization/owner`; act as him."""
        user = f"{name}@example.com"
        await self._admin.post("/v1/users", json={"email": user})
        for each in roles:
            where, role = each.split("/")
            path = "/v1/organizations/acme" if where == "organization" else f"/v1/projects/{where}"
            given = await self._admin.put(f"{path}/members/{user}/roles/{role}")
            assert given.status_code == 204, given.text
        made = await self._admin.post(f"/v1/users/{user}/tokens", json={"name": "test", **bounds})
        assert made.status_code == 201, made.text
        return self.holding(made.json()["secret"])

    async def make_with(self, http: httpx.AsyncClient, path: str, **bounds: Any) -> "Made":
        """Make a token at `path` with the one that `http` holds."""
        answer = await http.post(path, json={"name": "child", "expires_in_days": 1, **bounds})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        return Made(body["id"], body["made_with"], self.holding(body["secret"]))

    def holding(self, token: str) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            base_url=self._plane.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        self.clients.append(client)
        return client


@pytest.fixture
async def people(plane: ControlPlane, admin: httpx.AsyncClient) -> AsyncGenerator[People]:
    people = People(plane, admin)
    yield people
    for client in people.clients:
        await client.aclose()


async def test_a_revoked_token_is_refused_at_once_and_stays_revoked(
    plane: ControlPlane, people: People
) -> None:
    ada = await people.make("ada", "alpha/viewer")
    assert (await ada.get(JOBS)).status_code == 200
    (token,) = (await ada.get("/v1/tokens")).json()["data"]
    assert (await ada.delete(f"/v1/tokens/{token['id']}")).status_code == 200
    assert (await ada.get(JOBS)).status_code == 401
    with pytest.raises(DBAPIError, match="never changed"):
        await _run(plane.database, "UPDATE api_tokens SET revoked_at = NULL")
    with pytest.raises(DBAPIError, match="never changed"):
        await _run(plane.database, "UPDATE api_tokens SET projects = NULL, expires_at = NULL, name = 'x'")


async def test_an_expired_token_is_refused(
    plane: ControlPlane, admin: httpx.AsyncClient, people: People
) -> None:
    ada = await people.make("ada", "alpha/viewer")
    async with plane.database.transaction() as session:
        await session.execute(text("ALTER TABLE api_tokens DISABLE TRIGGER api_tokens_fixed"))
        await session.execute(update(ApiTokenRow).values(expires_at=utc_now() - timedelta(seconds=1)))
    answer = await ada.get(JOBS)
    assert (answer.status_code, "expired" in answer.text) == (401, True)


async def test_only_a_digest_is_stored_and_the_use_is_noted(plane: ControlPlane, people: People) -> None:
    ada = await people.make("ada", "alpha/viewer")
    secret = ada.headers["Authorization"].removeprefix("Bearer ")
    assert secret.startswith("syt_")
    await ada.get(JOBS)
    await plane.services.authenticator.close()
    async with plane.database.transaction() as session:
        dump = (
            await session.execute(text("SELECT api_tokens::text, audit_log::text FROM api_tokens, audit_log"))
        ).all()
        assert await session.scalar(select(ApiTokenRow.last_used_at)) is not None
    assert secret not in str(dump)
    assert secret.removeprefix("syt_") not in str(dump)


async def test_a_token_makes_none_that_reaches_further(people: People) -> None:
    ada = await people.make("ada", "alpha/developer", "beta/developer", projects=["alpha"],
                            permissions=["job.read"], expires_in_days=10)  # fmt: skip
    wide = {"name": "wide", "expires_in_days": 5}
    for bounds in (
        {}, {"projects": ["alpha"]}, {"permissions": ["job.read"]},
        {"projects": ["alpha", "beta"], "permissions": ["job.read"]},
        {"projects": ["alpha"], "permissions": ["job.read", "job.submit"]},
        {"projects": ["alpha"], "permissions": ["job.read"], "expires_in_days": 11},
    ):  # fmt: skip
        answer = await ada.post("/v1/tokens", json={**wide, **bounds})
        assert answer.status_code == 403, bounds
    narrow = await ada.post("/v1/tokens", json={**wide, "projects": ["alpha"], "permissions": ["job.read"]})
    assert narrow.status_code == 201
    child = people.holding(narrow.json()["secret"])
    assert (await child.get(JOBS)).status_code == 200
    assert (await child.get("/v1/projects/beta/jobs")).status_code == 404
    assert (await child.post(JOBS, json=FINE_TUNE_EXAMPLE)).status_code == 403
    assert (await child.post("/v1/sessions")).status_code == 403
    assert [each["id"] for each in (await child.get("/v1/me")).json()["projects"]] == ["alpha"]


async def test_a_token_goes_with_all_that_were_made_with_it(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    """A thief makes children, and children of those, one for a service account; none outlives the first."""
    stolen = await people.make("ada", "organization/owner", "alpha/viewer")
    (first,) = (await stolen.get("/v1/tokens")).json()["data"]
    assert (first["made_with"], first["created_by"]) == (None, "admin")
    made = await people.make_with(stolen, "/v1/tokens", expires_in_days=3)
    grandchild = await people.make_with(made.http, "/v1/tokens", expires_in_days=2)
    account = (await stolen.post("/v1/organizations/acme/service-accounts", json={"name": "ci"})).json()["id"]
    bot = await people.make_with(grandchild.http, "/v1/organizations/acme/service-accounts/ci/tokens")
    assert (made.made_with, grandchild.made_with, bot.made_with) == (first["id"], made.id, grandchild.id)
    for each in (made, grandchild):
        assert (await each.http.get(JOBS)).status_code == 200

    gone = (await admin.delete(f"/v1/tokens/{first['id']}")).json()

    assert set(gone["also_revoked"]) == {made.id, grandchild.id, bot.id}
    for http in (stolen, made.http, grandchild.http, bot.http):
        assert (await http.get("/v1/organizations/acme")).status_code == 401
    async with plane.database.transaction() as session:
        rows = await session.execute(
            text("SELECT object_id, detail->>'principal', detail->>'with' FROM audit_log"
                 " WHERE verb = 'token.revoke'")
        )  # fmt: skip
        assert set(map(tuple, rows)) == {
            (first["id"], "ada@example.com", None),
            (made.id, "ada@example.com", first["id"]),
            (grandchild.id, "ada@example.com", first["id"]),
            (bot.id, account, first["id"]),
        }
        makers = await session.execute(
            text("SELECT object_id, detail->>'made_with' FROM audit_log WHERE verb = 'token.create'")
        )
        assert (bot.id, grandchild.id) in set(map(tuple, makers))


async def test_a_token_that_only_is_replaced_leaves_those_made_with_it(people: People) -> None:
    ada = await people.make("ada", "alpha/viewer")
    made = await people.make_with(ada, "/v1/tokens")
    gone = await ada.delete(f"/v1/tokens/{made.made_with}?keep_made=true")
    assert (gone.status_code, gone.json()["also_revoked"]) == (200, [])
    assert (await ada.get(JOBS)).status_code == 401
    assert (await made.http.get(JOBS)).status_code == 200


async def test_a_child_made_at_the_moment_of_revocation_is_not_missed(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    ada = await people.make("ada", "alpha/viewer")
    (first,) = (await ada.get("/v1/tokens")).json()["data"]
    made = [ada.post("/v1/tokens", json={"name": f"n{number}", "expires_in_days": 1}) for number in range(24)]
    revoked = admin.delete(f"/v1/tokens/{first['id']}")
    answers = await asyncio.gather(*made[:12], revoked, *made[12:])
    assert {answer.status_code for answer in answers} <= {200, 201, 401, 429}
    async with plane.database.transaction() as session:
        left = await session.scalars(select(ApiTokenRow.id).where(ApiTokenRow.revoked_at.is_(None)))
        assert list(left) == []


async def test_a_token_with_bounds_revokes_none_that_reaches_further(people: People) -> None:
    ada = await people.make("ada", "alpha/viewer")
    (first,) = (await ada.get("/v1/tokens")).json()["data"]
    bounds = {"projects": ["alpha"], "permissions": ["job.read"]}
    narrow = await people.make_with(ada, "/v1/tokens", **bounds)
    other = await people.make_with(ada, "/v1/tokens", **bounds)
    assert (await narrow.http.delete(f"/v1/tokens/{first['id']}")).status_code == 403
    assert (await narrow.http.delete("/v1/sessions")).status_code == 403
    assert (await narrow.http.delete(f"/v1/tokens/{other.id}")).status_code == 200
    assert (await narrow.http.delete(f"/v1/tokens/{narrow.id}")).status_code == 200
    assert (await ada.get(JOBS)).status_code == 200


async def test_nobody_grants_more_than_he_holds(people: People, admin: httpx.AsyncClient) -> None:
    boss = await people.make("boss", "alpha/admin")
    await people.make("ben")
    ben = "/v1/projects/alpha/members/ben@example.com/roles"
    assert (await boss.put(f"{ben}/developer")).status_code == 204
    assert (await boss.put(f"{ben}/admin")).status_code == 204
    owner = "/v1/organizations/acme/members/boss@example.com/roles/owner"
    assert (await boss.put(owner)).status_code == 403
    assert (await boss.put("/v1/projects/beta/members/boss@example.com/roles/viewer")).status_code == 404
    developer = await people.make("dev", "alpha/developer")
    assert (await developer.put("/v1/projects/alpha/members/dev@example.com/roles/admin")).status_code == 403
    bounded = await people.make("late", "alpha/admin", permissions=["member.write", "job.read"])
    assert (await bounded.put(f"{ben}/approver")).status_code == 403


async def test_an_organization_keeps_an_owner(people: People, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/users", json={"email": "one@example.com"})
    await admin.post("/v1/users", json={"email": "two@example.com"})
    made = await admin.post("/v1/organizations", json={"id": "small", "owner": "one@example.com"})
    assert made.status_code == 201
    one, two = (f"/v1/organizations/small/members/{name}@example.com/roles/owner" for name in ("one", "two"))
    assert (await admin.delete(one)).status_code == 409
    assert (await admin.post("/v1/users/one@example.com/disable")).status_code == 409
    assert (await admin.delete("/v1/users/one@example.com")).status_code == 409
    assert (await admin.put(two)).status_code == 204
    answers = await asyncio.gather(admin.delete(one), admin.delete(two))
    assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_the_local_admin_stays(people: People, admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/v1/users/admin/disable")).status_code == 409
    assert (await admin.delete("/v1/users/admin")).status_code == 409
    made = await admin.post("/v1/users", json={"email": "admin@x.com"})
    assert made.json()["id"] == "admin@x.com"
    again = await admin.post("/v1/users", json={"email": "ADMIN@x.com"})
    assert again.status_code == 409


async def test_a_demoted_developers_job_goes_on_and_is_out_of_his_hands(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    ada = await people.make("ada", "alpha/developer")
    boss = await people.make("boss", "alpha/admin")
    job = await _submit(plane, ada)
    await admin.delete("/v1/projects/alpha/members/ada@example.com/roles/developer")
    assert (await ada.post(f"{JOBS}/{job}/cancel")).status_code == 404
    await admin.put("/v1/projects/alpha/members/ada@example.com/roles/viewer")
    refused = await ada.post(f"{JOBS}/{job}/pause")
    assert refused.status_code == 403
    assert "'developer'" in refused.json()["error"]["message"]
    seen = (await ada.get(f"{JOBS}/{job}")).json()
    assert (seen["state"], seen["created_by"]) == ("validating", "ada@example.com")
    await plane.admit(job)
    assert (await boss.post(f"{JOBS}/{job}/cancel")).status_code == 202


async def test_the_job_of_a_deleted_user_goes_on_under_his_name(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    ada = await people.make("ada", "alpha/developer")
    boss = await people.make("boss", "alpha/admin")
    job = await _submit(plane, ada)
    assert (await admin.delete("/v1/users/ada@example.com")).status_code == 200
    assert (await ada.get(JOBS)).status_code == 401
    await plane.admit(job)
    seen = (await boss.get(f"{JOBS}/{job}")).json()
    assert (seen["state"], seen["created_by"]) == ("queued", "ada@example.com")
    assert (await boss.post(f"{JOBS}/{job}/cancel")).status_code == 202
    assert (await admin.post("/v1/users", json={"email": "ada@example.com"})).status_code == 409
    assert (await admin.post("/v1/users/ada@example.com/enable")).status_code == 409


async def test_a_key_of_another_project_or_actor_replays_nothing_of_theirs(
    plane: ControlPlane, people: People
) -> None:
    ada = await people.make("ada", "alpha/developer")
    eve = await people.make("eve", "beta/developer")
    headers = {"Idempotency-Key": "the-same"}
    first = await ada.post(JOBS, json=await _spec(plane), headers=headers)
    assert first.status_code == 202, first.text
    theirs = await eve.post("/v1/projects/beta/jobs", json=await _spec(plane), headers=headers)
    assert theirs.status_code == 202, theirs.text
    assert theirs.json()["id"] != first.json()["id"]
    assert "Idempotent-Replayed" not in theirs.headers
    assert (await eve.post(JOBS, json=await _spec(plane), headers=headers)).status_code == 404


async def test_a_key_of_another_member_answers_whom_the_job_may_be_read_by(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    """Keys are the project's. The answer is the job's, so nobody gets it who couldn't ask for the job."""
    ada = await people.make("ada", "alpha/developer")
    headers, spec = {"Idempotency-Key": "k"}, await _spec(plane)
    first = (await ada.post(JOBS, json=spec, headers=headers)).json()["id"]
    ben = await people.make("ben", "alpha/developer")
    again = await ben.post(JOBS, json=spec, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first)
    assert again.json()["created_by"] == "ada@example.com"
    assert (await ben.get(f"{JOBS}/{first}")).status_code == 200

    async def refused(http: httpx.AsyncClient, status: int) -> None:
        for body in (spec, {**spec, "name": "another"}):
            answer = await http.post(JOBS, json=body, headers=headers)
            assert answer.status_code == status, answer.text
            assert first not in answer.text

    blind = await people.make("cy", "alpha/developer", permissions=["job.submit"])
    await refused(blind, 403)
    own = await blind.post(JOBS, json=spec, headers={"Idempotency-Key": "own"})
    replayed = await blind.post(JOBS, json=spec, headers={"Idempotency-Key": "own"})
    assert replayed.json()["id"] == own.json()["id"] != first
    await refused(await people.make("vic", "alpha/viewer"), 403)
    await refused(await people.make("eve", "beta/developer"), 404)
    await admin.delete("/v1/projects/alpha/members/ben@example.com/roles/developer")
    await refused(ben, 404)
    await admin.put("/v1/projects/alpha/members/ada@example.com/roles/viewer")
    await admin.delete("/v1/projects/alpha/members/ada@example.com/roles/developer")
    await refused(ada, 403)


async def test_a_link_opens_nothing_once_its_user_has_signed_out_and_each_is_on_record(
    plane: ControlPlane, people: People
) -> None:
    ada = await people.make("ada", "alpha/viewer")
    (token,) = (await ada.get("/v1/tokens")).json()["data"]
    early, late = [(await ada.post("/v1/sessions")).json()["url"] for _ in range(2)]
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        assert (await browser.get(early)).status_code == 303
        assert "steelyard_session" in browser.cookies
    assert (await ada.delete("/v1/sessions")).status_code == 204
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        assert (await browser.get(late)).status_code == 401
        assert "steelyard_session" not in browser.cookies
    async with plane.database.transaction() as session:
        rows = await session.execute(
            select(AuditRow.verb, AuditRow.actor, AuditRow.detail)
            .where(AuditRow.verb.in_(("session.create", "session.open", "user.sign_out")))
            .order_by(AuditRow.id)
        )
        found = [(row.verb, row.actor, row.detail.get("token")) for row in rows]
    ada_id = "user:ada@example.com"
    assert found == [
        ("session.create", ada_id, token["id"]),
        ("session.create", ada_id, token["id"]),
        ("session.open", ada_id, token["id"]),
        ("user.sign_out", ada_id, token["id"]),
    ]


async def test_a_session_and_all_that_it_makes_end_with_the_token_that_opened_it(
    people: People, admin: httpx.AsyncClient
) -> None:
    """A detour by a session frees a stolen token neither of its end nor of being named."""
    stolen = await people.make("ada", "alpha/viewer", expires_in_days=2)
    (first,) = (await stolen.get("/v1/tokens")).json()["data"]
    link = (await stolen.post("/v1/sessions")).json()["url"]
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        await browser.get(link)
        cookie = browser.cookies["steelyard_session"]
    session = people.holding(cookie)
    assert (await session.get(JOBS)).status_code == 200
    assert (await session.post("/v1/tokens", json={"name": "x", "expires_in_days": 3})).status_code == 403
    made = await people.make_with(session, "/v1/tokens")
    assert made.made_with == first["id"]
    next_link = (await session.post("/v1/sessions")).json()["url"]

    gone = (await admin.delete(f"/v1/tokens/{first['id']}")).json()

    assert gone["also_revoked"] == [made.id]
    for http in (stolen, session, made.http):
        assert (await http.get(JOBS)).status_code == 401
    assert (await session.post("/v1/sessions")).status_code == 401
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        for each in (link, next_link):
            assert (await browser.get(each)).status_code == 401


def test_a_session_that_is_handed_on_ends_a_day_after_it_began() -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    clock = HandClock(now)
    tokens = SessionTokens(FixedKey(b"k" * 32), clock)
    token, hours = tokens.issue("ada", 12 * 3600), 0
    while (found := tokens.session_of(token)) is not None:
        assert found.signed_in_at == now
        clock.forward(3600)
        hours += 1
        token = tokens.issue("ada", 12 * 3600, began=found.signed_in_at)
    assert hours == 25


async def test_a_session_that_is_over_is_nobody_before_any_route_asks_for_roles(
    plane: ControlPlane, people: People
) -> None:
    await people.make("ada", "alpha/viewer")
    sessions, authenticator = plane.services.session_tokens, plane.services.authenticator
    signed_out = sessions.issue("ada@example.com", 3600)
    assert (await people.holding(signed_out).delete("/v1/sessions")).status_code == 204
    never_seen = sessions.issue("ada@example.com", 3600, began=datetime(2026, 1, 1, tzinfo=UTC))
    for token in (never_seen, sessions.issue("nobody@example.com", 3600)):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(token, None, None)


async def test_a_session_ends_when_its_user_signs_out_or_is_shut_out(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    ada = await people.make("ada", "alpha/viewer")
    tokens = plane.services.session_tokens
    before = people.holding(tokens.issue("ada@example.com", 3600))
    assert (await before.get(JOBS)).status_code == 200
    assert (await before.delete("/v1/sessions")).status_code == 204
    assert (await before.get(JOBS)).status_code == 401
    assert (await ada.get(JOBS)).status_code == 200
    after = people.holding(tokens.issue("ada@example.com", 3600))
    assert (await after.get(JOBS)).status_code == 200
    await admin.post("/v1/users/ada@example.com/disable")
    assert (await after.get(JOBS)).status_code == 401
    for forged in (
        "sys_x.y",
        f"{tokens.issue('ada@example.com', 3600)}0",
        tokens.issue("no@example.com", 60),
    ):
        assert (await people.holding(forged).get(JOBS)).status_code == 401
    assert (await people.holding(tokens.issue("admin", -1)).get(JOBS)).status_code == 401


async def test_groups_give_roles_and_take_them(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    ada = await people.make("ada")
    mapping = {"issuer": "https://id.example.com", "group": "ml", "project": "alpha", "role": "developer"}
    made = await admin.post("/v1/organizations/acme/groups", json=mapping)
    assert made.status_code == 201
    assert (await ada.get(JOBS)).status_code == 404
    async with plane.database.transaction() as session:
        await session.execute(
            text("INSERT INTO principal_groups VALUES ('ada@example.com', 'https://id.example.com', 'ml')")
        )
    assert (await ada.get(JOBS)).status_code == 200
    (member,) = (await admin.get("/v1/projects/alpha/members")).json()["data"]
    assert (member["principal"], member["roles"], member["group_roles"]) == (
        "ada@example.com",
        [],
        ["developer"],
    )
    assert (await admin.delete(f"/v1/organizations/acme/groups/{made.json()['id']}")).status_code == 204
    assert (await ada.get(JOBS)).status_code == 404


async def test_an_archived_project_is_only_read(
    people: People, admin: httpx.AsyncClient, plane: ControlPlane
) -> None:
    ada = await people.make("ada", "alpha/developer")
    job = await _submit(plane, ada)
    assert (await admin.post("/v1/projects/alpha/archive")).status_code == 409
    async with plane.database.transaction() as session:
        await session.execute(update(JobRow).where(JobRow.id == job).values(state="succeeded"))
    assert (await admin.post("/v1/projects/alpha/archive")).status_code == 200
    assert (await ada.get(JOBS)).status_code == 200
    refused = await ada.post(JOBS, json=await _spec(plane))
    assert (refused.status_code, "archived" in refused.text) == (403, True)
    assert (await admin.post("/v1/projects/alpha/restore")).status_code == 200
    assert (await ada.post(JOBS, json=await _spec(plane))).status_code == 202


async def test_service_accounts_hold_roles_and_stay_in_their_organization(
    people: People, admin: httpx.AsyncClient
) -> None:
    made = await admin.post("/v1/organizations/acme/service-accounts", json={"name": "ci"})
    assert made.json()["id"] == "ci@acme"
    token = await admin.post("/v1/organizations/acme/service-accounts/ci/tokens", json={"name": "pipeline"})
    bot = people.holding(token.json()["secret"])
    assert (await bot.get(JOBS)).status_code == 404
    assert (await admin.put("/v1/projects/alpha/members/ci@acme/roles/developer")).status_code == 204
    assert (await bot.get(JOBS)).status_code == 200
    assert (await bot.get("/v1/me")).json()["kind"] == "service_account"
    assert (await admin.put("/v1/projects/default/members/ci@acme/roles/viewer")).status_code == 404
    await admin.post("/v1/organizations/acme/service-accounts/ci/disable")
    assert (await bot.get(JOBS)).status_code == 401
    await admin.post("/v1/organizations/acme/service-accounts/ci/enable")
    assert (await bot.get(JOBS)).status_code == 200


async def test_every_act_is_on_record(plane: ControlPlane, people: People, admin: httpx.AsyncClient) -> None:
    ada = await people.make("ada", "alpha/developer")
    await ada.put("/v1/projects/alpha/members/ada@example.com/roles/admin")
    async with plane.database.transaction() as session:
        rows = list(await session.execute(select(AuditRow.verb, AuditRow.outcome)))
        people_there = list(await session.scalars(select(PrincipalRow.id)))
    accepted = {verb for verb, outcome in rows if outcome == "accepted"}
    assert accepted >= {
        "organization.create",
        "project.create",
        "user.create",
        "member.grant",
        "token.create",
    }
    assert any(outcome == "refused" for _, outcome in rows)
    assert "ada@example.com" in people_there
    assert (await ada.get("/v1/projects/alpha/audit")).status_code == 403
    auditor = await people.make("aud", "organization/auditor")
    found = (await auditor.get("/v1/organizations/acme/audit")).json()["data"]
    assert {row["project_id"] for row in found} <= {"alpha", "beta"}
    assert (await auditor.get("/v1/audit")).status_code == 403


async def _spec(plane: ControlPlane) -> dict[str, Any]:
    """A spec that can be submitted to either project, whose dataset is put there first."""
    async with plane.database.transaction() as session:
        for project in ("alpha", "beta"):
            await session.execute(text(_DATASET), {"project": project})
    return FINE_TUNE_EXAMPLE


async def _submit(plane: ControlPlane, http: httpx.AsyncClient) -> str:
    answer = await http.post(JOBS, json=await _spec(plane))
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def _run(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement))


_DATASET = """
    INSERT INTO dataset_versions (project_id, name, version, digest, format, rows_train, rows_validation,
        manifest, created_by)
    VALUES (:project, 'support-chats', 3, 'sha256:00', 'messages', 1, 1, '{}', 'somebody')
    ON CONFLICT DO NOTHING
"""


async def test_a_change_is_on_record_with_what_was_and_what_is(
    plane: ControlPlane, people: People, admin: httpx.AsyncClient
) -> None:
    """Each act's `before` is the `after` of the one before it, so nothing changed in between unseen."""
    await people.make("ada", "alpha/viewer", "alpha/developer")
    ada = "ada@example.com"
    await admin.put(f"/v1/organizations/acme/members/{ada}/roles/auditor")
    await admin.delete(f"/v1/organizations/acme/members/{ada}/roles/auditor")
    await admin.delete(f"/v1/projects/alpha/members/{ada}/roles/viewer")
    for price in ("1", "2"):
        await admin.put("/v1/pool/flavors/gpu", json={"price_per_gpu_hour": price})
        await admin.put("/v1/projects/alpha/quotas/gpu", json={"nominal": int(price)})
        await admin.put("/v1/projects/alpha/budget", json={"money": price})
    job = (await admin.post(JOBS, json=await _spec(plane))).json()["id"]
    for priority in (600, 700):
        answer = await admin.post(f"{JOBS}/{job}/priority", json={"priority": priority})
        assert answer.status_code < 300, answer.text
    await admin.post(f"/v1/users/{ada}/disable")
    await admin.post(f"/v1/users/{ada}/enable")
    async with plane.database.transaction() as session:
        rows = list(
            await session.scalars(
                select(AuditRow).where(AuditRow.detail.has_key("before")).order_by(AuditRow.id)
            )
        )
    chains: dict[tuple[str, str | None], list[AuditRow]] = defaultdict(list)
    for row in rows:
        for value, digest in (("before", row.before_digest), ("after", row.after_digest)):
            assert digest == (None if row.detail[value] is None else digest_json(row.detail[value]))
        chains[row.verb.split(".")[0], row.object_id].append(row)
    kinds = {kind for kind, _ in chains}
    assert {"flavor", "quota", "budget", "member", "organization_member", "job", "user"} <= kinds
    for chain in chains.values():
        for earlier, later in itertools.pairwise(chain):
            assert later.before_digest == earlier.after_digest, (earlier.verb, later.verb)
