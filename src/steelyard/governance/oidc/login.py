"""The flow: away to the provider with a ticket, back with a code, in with a session."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from steelyard.governance.oidc.provider import ExternalIdentity, Provider
from steelyard.governance.oidc.tickets import Tickets
from steelyard.kit.errors import InvalidRequest, Unauthenticated

_AWAY_SECONDS = 600
_HANDOVER_SECONDS = 60
_CHALLENGE_LENGTH = 43
"""Of a base64url SHA-256 digest (RFC 7636, section 4.2)."""

SignIn = Callable[[ExternalIdentity], Awaitable[str]]
"""Finds or makes the user, brings their groups' roles up to date, and returns the principal's id.

Raises `Unauthenticated` for one who is disabled."""


@dataclass(frozen=True)
class Departure:
    """Where the browser goes, and the ticket that it keeps as a cookie meanwhile."""

    url: str
    ticket: str


@dataclass(frozen=True)
class Arrival:
    """Who came back, and where they are going on: a path here, or a command that waits on this machine."""

    principal_id: str
    to: str
    loopback_url: str | None
    """For a command: the address that it listens at, with a code that only it can exchange."""


class LoginService:
    """Signs people in. Keeps nothing between requests.

    Args:
        redirect_uri: what the provider sends browsers back to; registered there.
    """

    def __init__(self, provider: Provider, tickets: Tickets, sign_in: SignIn, redirect_uri: str) -> None:
        self._provider = provider
        self._tickets = tickets
        self._sign_in = sign_in
        self._redirect_uri = redirect_uri

    @property
    def issuer(self) -> str:
        """The provider."""
        return self._provider.issuer

    async def depart(self, to: str, port: int | None = None, challenge: str | None = None) -> Departure:
        """Begin: for a browser, or for a command that listens on a port and keeps the challenge's secret.

        Raises:
            InvalidRequest: a port without a challenge, or one that isn't a SHA-256 digest.
            Unavailable: the provider doesn't answer.
        """
        if port is not None and (challenge is None or len(challenge) != _CHALLENGE_LENGTH):
            raise InvalidRequest(
                "a command's sign-in needs a challenge: base64url(sha256(verifier))", param="challenge"
            )
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        content = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "to": to,
            "port": port,
            "challenge": challenge,
        }
        url = await self._provider.authorization_url(self._redirect_uri, state, nonce, verifier)
        return Departure(url, self._tickets.issue("away", content, _AWAY_SECONDS))

    async def arrive(self, ticket: str, state: str, code: str) -> Arrival:
        """Take somebody who comes back from the provider.

        Raises:
            Unauthenticated: another browser than the one that left, or the provider vouches for nobody.
            Unavailable: the provider doesn't answer.
        """
        content = self._tickets.read("away", ticket)
        if not hmac.compare_digest(str(content["state"]).encode(), state.encode()):
            raise Unauthenticated("this answer belongs to another sign-in; begin again")
        identity = await self._provider.redeem(
            self._redirect_uri, code, str(content["verifier"]), str(content["nonce"])
        )
        principal_id = await self._sign_in(identity)
        if content["port"] is None:
            return Arrival(principal_id, str(content["to"]), None)
        handover = {"principal": principal_id, "challenge": content["challenge"]}
        given = self._tickets.issue("handover", handover, _HANDOVER_SECONDS)
        return Arrival(
            principal_id, str(content["to"]), f"http://127.0.0.1:{int(content['port'])}/?code={given}"
        )

    def exchange(self, code: str, verifier: str) -> str:
        """Return the principal that a command's code stands for; only who began can tell its verifier.

        Raises:
            Unauthenticated: it is forged, too old, or somebody else's.
        """
        content = self._tickets.read("handover", code)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=")
        if not hmac.compare_digest(str(content["challenge"]).encode(), challenge):
            raise Unauthenticated("this code was made for another command; run 'steelyard login' again")
        return str(content["principal"])
