"""API tokens: made once, bounded for ever, revoked at once. Only a digest of the secret is kept.

A token that was made with another names it, and goes when that one goes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.authentication import scope_of, token_digest
from steelyard.governance.identity import Actor
from steelyard.governance.policy import Scope
from steelyard.governance.principals import find_user, require_open
from steelyard.governance.service_accounts import find_account
from steelyard.governance.standing import is_local_admin
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import NotFound, PermissionDenied, Unauthenticated
from steelyard.kit.ids import new_id, new_token
from steelyard.specs.access import Permission
from steelyard.specs.identity import TokenGrant, TokenRequest, TokenRevocation, TokenView
from steelyard.storage.database import Database
from steelyard.storage.tables import ApiTokenRow, PrincipalRow

_SECRET_PREFIX = "syt"  # noqa: S105 - no password


class TokenService:
    """Makes, lists and revokes tokens: one's own, and those of accounts that one is set over."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def create_own(self, actor: Actor, request: TokenRequest) -> TokenGrant:
        """Make a token for the actor himself.

        Raises:
            PermissionDenied: it would reach further, or live longer, than the token that asks for it.
        """
        if actor.kind not in ("user", "service_account"):
            raise PermissionDenied("an attempt has its own token and no other")
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            return await self._create(session, actor, actor.id, request)

    async def create_for_account(
        self, actor: Actor, organization: str, account: str, request: TokenRequest
    ) -> TokenGrant:
        """Make a token for a service account. Raises as `create_own`."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.ORGANIZATION_WRITE
            )
            row = await find_account(session, checked, account)
            require_open(row)
            return await self._create(session, actor, row.id, request)

    async def create_for_user(self, actor: Actor, user: str, request: TokenRequest) -> TokenGrant:
        """Make a token for a user who can't sign in yet. The local admin alone may: it is to act as him.

        Raises:
            PermissionDenied: somebody else asks.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
            if not is_local_admin(actor):
                raise PermissionDenied(
                    "only the local admin makes tokens for others; they can make their own"
                )
            row = await find_user(session, user)
            require_open(row)
            return await self._create(session, actor, row.id, request)

    async def search_own(self, actor: Actor) -> list[TokenView]:
        """Return the actor's tokens, newest first."""
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            return await _tokens_of(session, actor.id)

    async def search_of_account(self, actor: Actor, organization: str, account: str) -> list[TokenView]:
        """Return a service account's tokens, newest first."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.MEMBER_READ
            )
            return await _tokens_of(session, (await find_account(session, checked, account)).id)

    async def search_of_user(self, actor: Actor, user: str) -> list[TokenView]:
        """Return a user's tokens, newest first."""
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_READ)
            return await _tokens_of(session, (await find_user(session, user)).id)

    async def revoke(self, actor: Actor, token: str, *, keep_made: bool = False) -> TokenRevocation:
        """Revoke a token: one's own, a service account's of an organization that one owns, or, for an
        operator, a user's. Doing it again changes nothing.

        All tokens that were made with it go too, and those made with them, whoever holds them: who has stolen
        a token may have made more. With `keep_made` they stay.

        Raises:
            NotFound: no such token, or none of the actor's to revoke.
            PermissionDenied: the token that asks has bounds, and the other reaches further.
        """
        async with self._database.transaction() as session:
            row = await session.get(ApiTokenRow, token)
            if row is None:
                raise _no_token(token)
            await self._require_may_revoke(session, actor, row)
            await self._take(session, actor, [row.id], {})
            also = [] if keep_made else await self._take_made_with(session, actor, row.id)
            await session.refresh(row)
            return TokenRevocation(**_view(row).model_dump(), also_revoked=also)

    async def _take_made_with(self, session: AsyncSession, actor: Actor, root: str) -> list[str]:
        """Revoke all descendants, a generation at a time; return those that were good until now.

        Each generation is revoked before the next is looked for, so that none of them can have a child that
        is missed: making one waits for its maker's row, and then finds it revoked.
        """
        taken: list[str] = []
        generation = [root]
        while generation:
            made = select(ApiTokenRow.id).where(ApiTokenRow.made_with.in_(generation))
            generation = sorted(await session.scalars(made))
            taken += await self._take(session, actor, generation, {"with": root})
        return taken

    async def _take(
        self, session: AsyncSession, actor: Actor, tokens: Sequence[str], why: dict[str, str]
    ) -> list[str]:
        """Revoke those that aren't yet; return which these were."""
        gone = await session.execute(
            update(ApiTokenRow)
            .where(ApiTokenRow.id.in_(tokens), ApiTokenRow.revoked_at.is_(None))
            .values(revoked_at=self._clock())
            .returning(ApiTokenRow.id, ApiTokenRow.principal_id, ApiTokenRow.name)
        )
        found = sorted(gone.all())
        for row in found:
            await audit.record(
                session, actor, "token.revoke", "token", row.id,
                detail={"principal": row.principal_id, "name": row.name, **why},
            )  # fmt: skip
        return [row.id for row in found]

    async def _create(
        self, session: AsyncSession, actor: Actor, principal: str, request: TokenRequest
    ) -> TokenGrant:
        expires_at = self._clock() + timedelta(days=request.expires_in_days)
        wanted = Scope(
            projects=None if request.projects is None else frozenset(request.projects),
            permissions=None if request.permissions is None else frozenset(request.permissions),
        )
        await _require_no_wider(session, actor, wanted, expires_at)
        secret = new_token(_SECRET_PREFIX)
        row = (
            await session.scalars(
                insert(ApiTokenRow)
                .values(
                    id=new_id("tok"),
                    principal_id=principal,
                    name=request.name,
                    digest=token_digest(secret),
                    projects=None if wanted.projects is None else sorted(wanted.projects),
                    permissions=None if wanted.permissions is None else sorted(wanted.permissions),
                    created_by=actor.id,
                    made_with=actor.token_id,
                    expires_at=expires_at,
                )
                .returning(ApiTokenRow)
            )
        ).one()
        await audit.record(
            session, actor, "token.create", "token", row.id,
            detail={"principal": principal, "name": row.name, "projects": row.projects,
                    "permissions": row.permissions, "expires_at": expires_at.isoformat(),
                    "made_with": row.made_with},
        )  # fmt: skip
        return TokenGrant(**_view(row).model_dump(), secret=secret)

    async def _require_may_revoke(self, session: AsyncSession, actor: Actor, row: ApiTokenRow) -> None:
        if row.principal_id == actor.id:
            await access.require_active(session, actor)
            if not scope_of(row).is_within(actor.scope):
                raise PermissionDenied("a token with bounds revokes none that reaches further than itself")
            return
        holder = await session.get_one(PrincipalRow, row.principal_id)
        try:
            if holder.organization_id is not None:
                await access.authorize_organization(
                    session, actor, holder.organization_id, Permission.ORGANIZATION_WRITE
                )
            else:
                await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
        except (NotFound, PermissionDenied):
            raise _no_token(row.id) from None


async def _require_no_wider(session: AsyncSession, actor: Actor, wanted: Scope, expires_at: datetime) -> None:
    """Refuse a token that is more than the one that asks for it."""
    if actor.token_id is None:
        return
    # Until the new one is there, so that who revokes this one finds the new one too.
    own = await session.get_one(ApiTokenRow, actor.token_id, with_for_update={"read": True})
    if own.revoked_at is not None:
        raise Unauthenticated("this token was revoked; make another with 'steelyard tokens create'")
    if not wanted.is_within(scope_of(own)):
        raise PermissionDenied("a token makes none that reaches further than itself; name its bounds")
    if own.expires_at is not None and expires_at > own.expires_at:
        raise PermissionDenied("a token makes none that outlives it; ask for fewer days")


async def _tokens_of(session: AsyncSession, principal: str) -> list[TokenView]:
    query = select(ApiTokenRow).where(ApiTokenRow.principal_id == principal)
    return [_view(row) for row in await session.scalars(query.order_by(ApiTokenRow.id.desc()))]


def _view(row: ApiTokenRow) -> TokenView:
    return TokenView(
        id=row.id,
        principal=row.principal_id,
        name=row.name,
        projects=row.projects,
        permissions=row.permissions,
        created_by=row.created_by,
        made_with=row.made_with,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _no_token(token: str) -> NotFound:
    return NotFound(
        f"no token {token!r}, or none of yours; 'steelyard tokens list' names them", param="token"
    )
