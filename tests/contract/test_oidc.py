"""Sign-in against a real OpenID Connect provider in a thread."""

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.control_plane import ControlPlane, serve
from tests.identity_provider import run_provider

from steelyard.cli.exits import ExitCode
from steelyard.cli.main import main
from steelyard.client.credentials import store_session
from steelyard.governance.identity import FixedKey
from steelyard.governance.oidc.login import LoginService
from steelyard.governance.oidc.provider import ExternalIdentity, Provider, ProviderSettings
from steelyard.governance.oidc.tickets import Tickets
from steelyard.kit.clock import utc_now
from steelyard.kit.errors import InvalidRequest, Unauthenticated, Unavailable
from steelyard.storage.database import Database

REDIRECT = "http://127.0.0.1:9/login/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ADA = {
    "sub": "ada-7",
    "email": "ada@example.org",
    "email_verified": True,
    "name": "Ada",
    "groups": ["ml", "leads", "ml"],
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with run_provider([ADA]) as issuer:
        yield issuer


class Front:
    """A login service whose directory remembers who came."""

    def __init__(self, issuer: str, key: bytes = b"k" * 32) -> None:
        self.seen: list[ExternalIdentity] = []
        provider = Provider(ProviderSettings(issuer, "steelyard", "its-secret"))
        self.login = LoginService(provider, Tickets(FixedKey(key)), self._sign_in, REDIRECT)

    async def _sign_in(self, identity: ExternalIdentity) -> str:
        self.seen.append(identity)
        return f"usr_{identity.subject}"


@pytest.fixture
def front(issuer: str) -> Front:
    return Front(issuer)


async def consent(url: str, subject: str = "ada-7") -> dict[str, str]:
    """Be the browser at the provider; return what it is sent back with."""
    async with httpx.AsyncClient() as browser:
        response = await browser.post(url, data={"sub": subject})
    assert response.status_code == 302, response.text
    target = response.headers["location"]
    assert target.startswith(REDIRECT)
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


async def test_a_browser_signs_in_and_its_groups_come_along(front: Front, issuer: str) -> None:
    departure = await front.login.depart("/mlflow/")
    query = parse_qs(urlsplit(departure.url).query)
    assert query["code_challenge_method"] == ["S256"]
    back = await consent(departure.url)
    arrival = await front.login.arrive(departure.ticket, back["state"], back["code"])
    assert (arrival.principal_id, arrival.to, arrival.loopback_url) == ("usr_ada-7", "/mlflow/", None)
    assert front.seen == [ExternalIdentity(issuer, "ada-7", "ada@example.org", "Ada", ("leads", "ml"))]


async def test_a_command_gets_a_code_that_only_it_can_exchange(front: Front) -> None:
    departure = await front.login.depart("/", 4711, CHALLENGE)
    back = await consent(departure.url)
    arrival = await front.login.arrive(departure.ticket, back["state"], back["code"])
    assert arrival.loopback_url is not None
    target = urlsplit(arrival.loopback_url)
    assert (target.hostname, target.port) == ("127.0.0.1", 4711)
    code = parse_qs(target.query)["code"][0]
    assert front.login.exchange(code, VERIFIER) == "usr_ada-7"
    with pytest.raises(Unauthenticated, match="another command"):
        front.login.exchange(code, "w" * 43)


async def test_a_code_is_good_once(front: Front) -> None:
    departure = await front.login.depart("/")
    back = await consent(departure.url)
    await front.login.arrive(departure.ticket, back["state"], back["code"])
    with pytest.raises(Unauthenticated):
        await front.login.arrive(departure.ticket, back["state"], back["code"])


async def test_an_answer_for_another_browser_is_refused(front: Front) -> None:
    mine, theirs = await front.login.depart("/"), await front.login.depart("/")
    back = await consent(theirs.url)
    with pytest.raises(Unauthenticated, match="another sign-in"):
        await front.login.arrive(mine.ticket, back["state"], back["code"])


async def test_a_code_of_another_sign_in_is_refused(front: Front) -> None:
    """Injected into one's own sign-in, it fails by PKCE or by nonce."""
    mine, theirs = await front.login.depart("/"), await front.login.depart("/")
    own, stolen = await consent(mine.url), await consent(theirs.url)
    with pytest.raises(Unauthenticated):
        await front.login.arrive(mine.ticket, own["state"], stolen["code"])
    assert front.seen == []


async def test_forged_old_and_wrong_tickets_are_refused(front: Front, issuer: str) -> None:
    departure = await front.login.depart("/")
    for ticket in (
        "",
        "AAAA",
        departure.ticket[:-4] + "AAAA",
        (await Front(issuer, b"x" * 32).login.depart("/")).ticket,
    ):
        with pytest.raises(Unauthenticated):
            await front.login.arrive(ticket, "s", "c")
    with pytest.raises(Unauthenticated, match="isn't one of ours"):
        front.login.exchange(departure.ticket, VERIFIER)


def test_a_ticket_ends() -> None:
    tickets = Tickets(FixedKey(b"k" * 32))
    assert tickets.read("a", tickets.issue("a", {"x": 1}, 5))["x"] == 1
    with pytest.raises(Unauthenticated, match="too long"):
        tickets.read("a", tickets.issue("a", {"x": 1}, -1))
    assert utc_now()


async def test_a_token_for_another_client_is_refused(issuer: str) -> None:
    front = Front(issuer)
    departure = await front.login.depart("/")
    back = await consent(departure.url)
    other = Provider(ProviderSettings(issuer, "somebody-else", "its-secret"))
    with pytest.raises(Unauthenticated):
        await other.redeem(REDIRECT, back["code"], "v" * 43, "n")


async def test_a_provider_that_is_away_or_another_is_named(issuer: str) -> None:
    with pytest.raises(Unavailable, match="doesn't answer"):
        await Front("http://localhost:9").login.depart("/")
    with pytest.raises(Unavailable, match="exactly"):
        await Front(f"{issuer}/").login.depart("/")
    with pytest.raises(InvalidRequest, match="https"):
        Front("http://provider.example.org")


@pytest.mark.parametrize("challenge", [None, "short"])
async def test_a_command_must_bring_a_challenge(front: Front, challenge: str | None) -> None:
    with pytest.raises(InvalidRequest, match="challenge"):
        await front.login.depart("/", 4711, challenge)


@pytest.fixture
async def plane(
    database: Database, database_dsn: str, tmp_path: Path, issuer: str
) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path, issuer=issuer) as plane:
        yield plane


async def leave(browser: httpx.AsyncClient, path: str) -> str:
    """Begin at the api; returns the address at the provider."""
    answer = await browser.get(path)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def come_back(browser: httpx.AsyncClient, url: str, subject: str = "ada-7") -> httpx.Response:
    """Sign in at the provider, and go where it sends the browser."""
    async with httpx.AsyncClient() as elsewhere:
        response = await elsewhere.post(url, data={"sub": subject})
    return await browser.get(response.headers["location"])


async def test_a_browser_gets_a_session_whose_roles_follow_its_groups(
    plane: ControlPlane, issuer: str
) -> None:
    async with httpx.AsyncClient(base_url=plane.url) as browser, plane.http() as admin:
        back = await come_back(browser, await leave(browser, "/login?to=/mlflow/"))
        assert back.status_code == 200, back.text
        assert "steelyard_session" in browser.cookies
        # The cookie is for pages that are looked at; requests of the API carry a token.
        assert (await browser.get("/v1/projects/default/jobs")).status_code == 401
        users = (await admin.get("/v1/users")).json()["data"]
        assert {"ada@example.org"} == {user["email"] for user in users if user["email"]}


async def test_a_command_gets_a_token_whose_roles_follow_the_groups(plane: ControlPlane, issuer: str) -> None:
    async with httpx.AsyncClient(base_url=plane.url) as browser, plane.http() as admin:
        back = await come_back(browser, await leave(browser, f"/login?port=4711&challenge={CHALLENGE}"))
        code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
        stolen = await browser.post("/v1/login/exchange", json={"code": code, "verifier": "w" * 43})
        assert stolen.status_code == 401
        grant = (await browser.post("/v1/login/exchange", json={"code": code, "verifier": VERIFIER})).json()
        mine = {"Authorization": f"Bearer {grant['token']}"}
        assert (await browser.get("/v1/projects/default/jobs", headers=mine)).status_code == 404
        mapping = {"issuer": issuer, "group": "ml", "project": "default", "role": "viewer"}
        made = await admin.post("/v1/organizations/default/groups", json=mapping)
        assert made.status_code == 201, made.text
        assert (await browser.get("/v1/projects/default/jobs", headers=mine)).status_code == 200
        spec = await browser.post("/v1/projects/default/jobs", headers=mine, json={})
        assert spec.status_code == 403
        me = (await browser.get("/v1/me", headers=mine)).json()
        assert me["id"] == grant["principal"]
        disabled = await admin.post(f"/v1/users/{grant['principal']}/disable")
        assert disabled.status_code < 300, disabled.text
        assert (await browser.get("/v1/projects/default/jobs", headers=mine)).status_code in (401, 404)
        refused = await come_back(browser, await leave(browser, f"/login?port=4711&challenge={CHALLENGE}"))
        assert refused.status_code == 401


async def test_the_command_line_signs_in_and_keeps_the_session(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEELYARD_API_URL", plane.url)
    monkeypatch.setenv("STEELYARD_CREDENTIALS_FILE", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "nowhere"))
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)

        def sign_in() -> None:
            with httpx.Client(follow_redirects=False) as browser:
                away = browser.get(url).headers["location"]
                with httpx.Client() as elsewhere:
                    back = elsewhere.post(away, data={"sub": "ada-7"}).headers["location"]
                browser.get(browser.get(back).headers["location"])

        threading.Thread(target=sign_in).start()
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    assert await asyncio.to_thread(main, ["login", "--timeout", "20"]) == 0
    assert opened[0].startswith(f"{plane.url}/login?port=")
    stored = json.loads((tmp_path / "credentials.json").read_text())[plane.url]
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert stored["token"].startswith("sys_")
    assert await asyncio.to_thread(main, ["whoami", "--json"]) == 0
    async with httpx.AsyncClient(base_url=plane.url) as thief:
        stolen = {"Authorization": f"Bearer {stored['token']}"}
        assert (await thief.get("/v1/me", headers=stolen)).status_code == 200
        assert await asyncio.to_thread(main, ["logout"]) == 0
        assert json.loads((tmp_path / "credentials.json").read_text()) == {}
        assert (await thief.get("/v1/me", headers=stolen)).status_code == 401
        assert (await thief.post("/v1/tokens", headers=stolen, json={"name": "x"})).status_code == 401
        assert (await thief.post("/v1/sessions", headers=stolen)).status_code == 401
    assert await asyncio.to_thread(main, ["logout", "--json"]) == 0


async def test_a_logout_that_reaches_nobody_forgets_the_session_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "credentials.json"
    monkeypatch.setenv("STEELYARD_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("STEELYARD_CREDENTIALS_FILE", str(path))
    store_session(path, "http://127.0.0.1:9", "sys_kept.here", time.time() + 3600)
    assert await asyncio.to_thread(main, ["logout"]) == ExitCode.UNREACHABLE
    assert json.loads(path.read_text()) == {}
    assert "wasn't ended" in capsys.readouterr().err.replace("\n", " ")


async def test_without_a_provider_login_says_so(
    database: Database, database_dsn: str, tmp_path: Path
) -> None:
    async with serve(database, database_dsn, tmp_path) as plane, plane.http() as http:
        assert (await http.get("/v1/login")).json() == {"enabled": False, "issuer": None}
        assert (await http.get("/login")).status_code == 404
