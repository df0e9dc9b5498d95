"""From a bearer token to an actor. Tokens are compared in constant time and never stored or logged."""

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from steelyard.governance.identity import LOCAL_ADMIN_ID, Actor, AttemptTokens, Session, SessionTokens
from steelyard.governance.policy import Scope
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import SteelyardError, Unauthenticated
from steelyard.specs.access import Permission
from steelyard.storage.database import Database
from steelyard.storage.tables import ApiTokenRow, PrincipalRow

API_TOKEN_PREFIX = "syt_"  # noqa: S105 - no password
CACHE_SECONDS = 5.0
_MOST_KNOWN = 4096
_USE_RECORDED_EVERY = timedelta(minutes=1)
_RECORD_USE = text(
    "UPDATE api_tokens SET last_used_at = clock_timestamp() WHERE id = :id"
    " AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')"
)
_log = structlog.get_logger()


class Authenticator:
    """Turns a bearer token into an actor.

    What the database said of a token or a session is believed for `CACHE_SECONDS`. That bounds how long a
    revoked token is still recognized; whatever asks `governance.access` refuses it at once, because the
    standing is read anew together with the token's.

    Belongs to one event loop; `close` waits for the notes of tokens' use.

    Args:
        admin_token: the local admin's token.
        attempt_tokens: verifies the tokens of training processes.
        session_tokens: verifies the tokens of sessions.
        database: where API tokens and principals are looked up.
    """

    def __init__(
        self,
        admin_token: str,
        attempt_tokens: AttemptTokens,
        session_tokens: SessionTokens,
        database: Database,
        clock: Clock = utc_now,
    ) -> None:
        self._admin_digest = _digest(admin_token)
        self._attempt_tokens = attempt_tokens
        self._session_tokens = session_tokens
        self._database = database
        self._clock = clock
        self._known = _Cache(CACHE_SECONDS)
        self._notes: set[asyncio.Task[None]] = set()

    async def authenticate(self, token: str | None, request_id: str | None, source: str | None) -> Actor:
        """Return who sent `token`.

        Raises:
            Unauthenticated: no token, one that is not known, or one of an account that was closed.
        """
        if not token:
            raise Unauthenticated("send 'Authorization: Bearer <token>'; 'steelyard token' prints yours")
        if hmac.compare_digest(_digest(token), self._admin_digest):
            return Actor("user", LOCAL_ADMIN_ID, request_id, source)
        if token.startswith(API_TOKEN_PREFIX):
            return await self._bearer(token, request_id, source)
        if (session := self._session_tokens.session_of(token)) is not None:
            await self._require_signed_in(session)
            return Actor(
                "user",
                session.principal_id,
                request_id,
                source,
                signed_in_at=session.signed_in_at,
                token_id=session.token_id,
            )
        attempt_id = self._attempt_tokens.attempt_of(token)
        if attempt_id is not None:
            return Actor("attempt", attempt_id, request_id, source, attempt_id=attempt_id)
        raise _unknown()

    async def close(self) -> None:
        """Wait until the last notes of tokens' use are written."""
        await asyncio.gather(*self._notes, return_exceptions=True)

    async def _bearer(self, token: str, request_id: str | None, source: str | None) -> Actor:
        digest = _digest(token)
        known = self._known.get(digest)
        if known is None:
            known = await self._look_up_token(digest)
            self._known.put(digest, known)
        if known.expires_at is not None and known.expires_at <= self._clock():
            raise Unauthenticated("this token has expired; make another with 'steelyard tokens create'")
        return Actor(known.kind, known.id, request_id, source, scope=known.scope, token_id=known.token_id)

    async def _look_up_token(self, digest: bytes) -> "_Known":
        query = (
            select(ApiTokenRow, PrincipalRow.kind, PrincipalRow.disabled_at, PrincipalRow.deleted_at)
            .join(PrincipalRow, PrincipalRow.id == ApiTokenRow.principal_id)
            .where(ApiTokenRow.digest == digest)
        )
        async with self._database.transaction() as session:
            found = (await session.execute(query)).one_or_none()
        if found is None or not hmac.compare_digest(found[0].digest, digest):
            raise _unknown()
        row: ApiTokenRow = found[0]
        if row.revoked_at is not None:
            raise Unauthenticated("this token was revoked; make another with 'steelyard tokens create'")
        _require_open(found.disabled_at, found.deleted_at)
        self._note_use(row)
        return _Known(
            kind="service_account" if found.kind == "service_account" else "user",
            id=row.principal_id,
            token_id=row.id,
            expires_at=row.expires_at,
            scope=scope_of(row),
        )

    async def _require_signed_in(self, signed_in: Session) -> None:
        principal_id = signed_in.principal_id
        key = f"{principal_id}|{signed_in.signed_in_at.timestamp()}|{signed_in.token_id or ''}".encode()
        if self._known.get(key) is not None:
            return
        query = select(
            PrincipalRow.disabled_at, PrincipalRow.deleted_at, PrincipalRow.sessions_valid_from
        ).where(PrincipalRow.id == principal_id, PrincipalRow.kind == "user")
        async with self._database.transaction() as session:
            found = (await session.execute(query)).one_or_none()
            opener = await session.get(ApiTokenRow, signed_in.token_id) if signed_in.token_id else None
        if found is None:
            raise _unknown()
        _require_open(found.disabled_at, found.deleted_at)
        if opener is not None and (opener.revoked_at or _is_past(opener.expires_at, self._clock())):
            raise Unauthenticated("the token that opened this session is no longer good; open another")
        if signed_in.signed_in_at < found.sessions_valid_from:
            raise Unauthenticated("this session was signed out; sign in again")
        self._known.put(key, _Known("user", principal_id, None, None, Scope()))

    def _note_use(self, row: ApiTokenRow) -> None:
        """Note that a token was used, to the minute, in a transaction that no request waits for."""
        if row.last_used_at is not None and row.last_used_at > self._clock() - _USE_RECORDED_EVERY:
            return
        task = asyncio.create_task(self._write_use(row.id))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _write_use(self, token_id: str) -> None:
        try:
            async with self._database.transaction() as session:
                await session.execute(_RECORD_USE, {"id": token_id})
        except (SteelyardError, SQLAlchemyError) as error:
            _log.warning("the use of a token is not noted", token=token_id, error=str(error))


def token_digest(token: str) -> bytes:
    """Return what is stored of an API token."""
    return _digest(token)


def scope_of(row: ApiTokenRow) -> Scope:
    """Return the bounds of an API token. A permission that is no more is one less."""
    names = set(Permission)
    return Scope(
        projects=None if row.projects is None else frozenset(row.projects),
        permissions=None
        if row.permissions is None
        else frozenset(Permission(name) for name in row.permissions if name in names),
    )


@dataclass(frozen=True)
class _Known:
    kind: Literal["user", "service_account"]
    id: str
    token_id: str | None
    expires_at: datetime | None
    scope: Scope


class _Cache:
    """The latest few thousand, each for some seconds. Unknown tokens are not kept: of them is no end."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, _Known]] = OrderedDict()

    def get(self, key: bytes) -> _Known | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < self._clock():
            return None
        return entry[1]

    def put(self, key: bytes, known: _Known) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (self._clock() + self._seconds, known)
        if len(self._entries) > _MOST_KNOWN:
            self._entries.popitem(last=False)


def _is_past(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now


def _require_open(disabled_at: datetime | None, deleted_at: datetime | None) -> None:
    if disabled_at is not None or deleted_at is not None:
        raise Unauthenticated("this account is disabled or deleted; ask who administers this installation")


def _unknown() -> Unauthenticated:
    return Unauthenticated("this token is not known here; 'steelyard token' prints the local admin's")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
