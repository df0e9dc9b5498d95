"""Who is calling. Tokens are compared in constant time and never stored or logged."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from steelyard.governance.policy import Scope
from steelyard.kit.clock import Clock, utc_now

LOCAL_ADMIN_ID = "admin"
"""Who holds the installation's own token. Its row in `principals` keeps the name from everybody else."""

FIRST_KEY = "k1"
"""Id of a key in whose file none is written."""
_ATTEMPT_PREFIX = "sya_"
_SESSION_PREFIX = "sys_"
LONGEST_SESSION = timedelta(days=1)
"""A session is over so long after it began, however often it was handed on."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Actor:
    """Somebody who acts: a person, a service account, the platform, a training process, or a stranger.

    `project_id` and `attempt_id` are set for an attempt alone; it reaches nothing but itself. `scope` bounds
    what the token that was sent may be used for. `token_id` names it where it is an API token; where it is a
    session's, `signed_in_at` says since when that is, and `token_id` names the API token that opened it.
    """

    kind: Literal["user", "service_account", "system", "attempt", "anonymous"]
    id: str
    request_id: str | None = None
    source: str | None = None
    project_id: str | None = None
    attempt_id: str | None = None
    scope: Scope = field(default_factory=Scope)
    token_id: str | None = None
    signed_in_at: datetime | None = None


SYSTEM = Actor(kind="system", id="system")


class SigningKeys(Protocol):
    """Keys of one purpose, by their ids. They may change at any time; each call sees them as they are."""

    def keys(self) -> dict[str, bytes]:
        """Return all that are good, oldest first; the last one signs. Never empty."""
        ...


class FixedKey:
    """One key, for ever."""

    def __init__(self, key: bytes) -> None:
        self._keys = {FIRST_KEY: key}

    def keys(self) -> dict[str, bytes]:
        """As `SigningKeys.keys`."""
        return self._keys


class AttemptTokens:
    """Tokens of training processes: `sya_<attempt id>.<key id>.<HMAC-SHA256 of the attempt's id>`.

    They need no storage, so a worker that takes over a launch makes a token again. A token is good while its
    attempt holds the lease, which the database says, and its key is there. One without a key id is of before
    keys had any.
    """

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def issue(self, attempt_id: str) -> str:
        """Return the attempt's token."""
        key_id, key = _newest(self._keys)
        return f"{_ATTEMPT_PREFIX}{attempt_id}.{key_id}.{_attempt_signature(key, attempt_id)}"

    def attempt_of(self, token: str) -> str | None:
        """Return the attempt that a token belongs to, or None where it is not a valid attempt token."""
        if not token.startswith(_ATTEMPT_PREFIX):
            return None
        attempt_id, key_id, signature = _parts(token.removeprefix(_ATTEMPT_PREFIX))
        key = self._keys.keys().get(key_id)
        if key is None:
            return None
        valid = hmac.compare_digest(signature.encode(), _attempt_signature(key, attempt_id).encode())
        return attempt_id if valid else None


@dataclass(frozen=True)
class Session:
    """What a session's token says: whose it is, since when, and which API token opened it, if one did."""

    principal_id: str
    signed_in_at: datetime
    token_id: str | None = None


class SessionTokens:
    """Tokens of sessions: `sys_<base64url of principal|began|expiry|API token>.<key id>.<HMAC-SHA256>`, the
    moments in Unix microseconds.

    A link for a person carries a short-lived one, which is exchanged for a longer-lived cookie, so that no
    lasting token stands in a browser's history. Whether its principal has signed out or was closed since, or
    the API token that opened it was revoked, the database says.
    """

    def __init__(self, keys: SigningKeys, clock: Clock = utc_now) -> None:
        self._keys = keys
        self._clock = clock

    def issue(
        self,
        principal_id: str,
        lifetime_seconds: int,
        *,
        began: datetime | None = None,
        token_id: str | None = None,
    ) -> str:
        """Return a token of a principal that is good for so long.

        Args:
            principal_id: whose.
            lifetime_seconds: how long it is good; never beyond `LONGEST_SESSION` after the session began.
            began: when the session began that this goes on with; None: now.
            token_id: the API token that opened the session; it ends with it.
        """
        now = self._clock()
        since = now if began is None else began
        expiry = min(now + timedelta(seconds=lifetime_seconds), since + LONGEST_SESSION)
        content = f"{principal_id}|{_microseconds(since)}|{_microseconds(expiry)}|{token_id or ''}".encode()
        payload = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
        key_id, key = _newest(self._keys)
        return f"{_SESSION_PREFIX}{payload}.{key_id}.{_session_signature(key, payload)}"

    def session_of(self, token: str) -> Session | None:
        """Return whose token it is; None where it was not issued here or is past its time."""
        if not token.startswith(_SESSION_PREFIX):
            return None
        payload, key_id, signature = _parts(token.removeprefix(_SESSION_PREFIX))
        key = self._keys.keys().get(key_id)
        if key is None:
            return None
        if not hmac.compare_digest(signature.encode(), _session_signature(key, payload).encode()):
            return None
        try:
            content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
            principal_id, began, expiry, token_id = content.rsplit("|", 3)
            since, until = int(began), int(expiry)
        except (binascii.Error, ValueError):  # signed, but not by this version
            return None
        if until < _microseconds(self._clock()):
            return None
        return Session(principal_id, _EPOCH + timedelta(microseconds=since), token_id or None)


def _newest(keys: SigningKeys) -> tuple[str, bytes]:
    return list(keys.keys().items())[-1]


def _parts(token: str) -> tuple[str, str, str]:
    """Split a token into what it says, the id of its key, and its signature."""
    content, _, rest = token.partition(".")
    key_id, named, signature = rest.rpartition(".")
    return content, key_id if named else FIRST_KEY, signature


def _attempt_signature(key: bytes, attempt_id: str) -> str:
    mac = hmac.new(key, attempt_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _session_signature(key: bytes, payload: str) -> str:
    return hmac.new(key, f"session:{payload}".encode(), hashlib.sha256).hexdigest()


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
