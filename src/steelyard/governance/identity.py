"""Who is calling. Tokens are compared in constant time and never stored or logged."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from steelyard.governance.policy import Scope
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Unauthenticated

LOCAL_ADMIN_ID = "admin"
"""Who holds the installation's own token. Its row in `principals` keeps the name from everybody else."""

_ATTEMPT_PREFIX = "sya_"
_SESSION_PREFIX = "sys_"


@dataclass(frozen=True)
class Actor:
    """Somebody who acts: a person, a service account, the platform, a training process, or a stranger.

    `project_id` and `attempt_id` are set for an attempt alone; it reaches nothing but itself. `scope` bounds
    what the token that was sent may be used for, and `token_id` names it, where it is an API token.
    """

    kind: Literal["user", "service_account", "system", "attempt", "anonymous"]
    id: str
    request_id: str | None = None
    source: str | None = None
    project_id: str | None = None
    attempt_id: str | None = None
    scope: Scope = field(default_factory=Scope)
    token_id: str | None = None


SYSTEM = Actor(kind="system", id="system")


class AttemptTokens:
    """Tokens of training processes: `sya_<attempt id>.<HMAC-SHA256 of it>`.

    They need no storage, so a worker that takes over a launch makes the same token again. A token is good
    while its attempt holds the lease, which the database says.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, attempt_id: str) -> str:
        """Return the attempt's token."""
        return f"{_ATTEMPT_PREFIX}{attempt_id}.{self._signature(attempt_id)}"

    def attempt_of(self, token: str) -> str | None:
        """Return the attempt that a token belongs to, or None where it is not a valid attempt token."""
        if not token.startswith(_ATTEMPT_PREFIX):
            return None
        attempt_id, _, signature = token.removeprefix(_ATTEMPT_PREFIX).partition(".")
        valid = hmac.compare_digest(signature.encode(), self._signature(attempt_id).encode())
        return attempt_id if valid else None

    def _signature(self, attempt_id: str) -> str:
        mac = hmac.new(self._key, attempt_id.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


class SessionTokens:
    """Tokens of browser sessions: `sys_<expiry, Unix seconds>.<HMAC-SHA256 of it>`.

    A link for a person carries a short-lived one, which is exchanged for a longer-lived cookie, so that no
    lasting token stands in a browser's history.
    """

    def __init__(self, key: bytes, clock: Clock = utc_now) -> None:
        self._key = key
        self._clock = clock

    def issue(self, lifetime_seconds: int) -> str:
        """Return a token that is good for so long."""
        expiry = int(self._clock().timestamp()) + lifetime_seconds
        return f"{_SESSION_PREFIX}{expiry}.{self._signature(str(expiry))}"

    def is_valid(self, token: str) -> bool:
        """Whether a token was issued here and is not past its time."""
        if not token.startswith(_SESSION_PREFIX):
            return False
        expiry, _, signature = token.removeprefix(_SESSION_PREFIX).partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(expiry).encode()):
            return False
        return int(expiry) >= self._clock().timestamp()

    def _signature(self, expiry: str) -> str:
        return hmac.new(self._key, f"session:{expiry}".encode(), hashlib.sha256).hexdigest()


class Authenticator:
    """Turns a bearer token into an actor.

    Args:
        admin_token: the local admin's token.
        attempt_tokens: verifies the tokens of training processes.
        session_tokens: verifies the tokens of browser sessions, which act for the local admin.
    """

    def __init__(
        self, admin_token: str, attempt_tokens: AttemptTokens, session_tokens: SessionTokens
    ) -> None:
        self._admin_digest = hashlib.sha256(admin_token.encode()).digest()
        self._attempt_tokens = attempt_tokens
        self._session_tokens = session_tokens

    def authenticate(self, token: str | None, request_id: str | None, source: str | None) -> Actor:
        """Return who sent `token`.

        Raises:
            Unauthenticated: no token, or one that is not known.
        """
        if not token:
            raise Unauthenticated("send 'Authorization: Bearer <token>'; 'steelyard token' prints yours")
        if hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._admin_digest):
            return Actor(kind="user", id=LOCAL_ADMIN_ID, request_id=request_id, source=source)
        if self._session_tokens.is_valid(token):
            return Actor(kind="user", id=LOCAL_ADMIN_ID, request_id=request_id, source=source)
        attempt_id = self._attempt_tokens.attempt_of(token)
        if attempt_id is not None:
            return Actor("attempt", attempt_id, request_id, source, attempt_id=attempt_id)
        raise Unauthenticated("this token is not known here; 'steelyard token' prints the local admin's")
