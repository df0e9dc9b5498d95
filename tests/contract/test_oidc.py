"""Sign-in against a real OpenID Connect provider in a thread."""

import base64
import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.identity_provider import run_provider

from steelyard.governance.oidc.login import LoginService
from steelyard.governance.oidc.provider import ExternalIdentity, Provider, ProviderSettings
from steelyard.governance.oidc.tickets import Tickets
from steelyard.kit.clock import utc_now
from steelyard.kit.errors import InvalidRequest, Unauthenticated, Unavailable

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
        self.login = LoginService(provider, Tickets(key), self._sign_in, REDIRECT)

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
    tickets = Tickets(b"k" * 32)
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
