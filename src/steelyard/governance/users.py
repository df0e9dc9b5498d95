"""People: made before their first sign-in or at it, disabled, deleted; and who the caller is."""

from collections.abc import Callable
from typing import Literal

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit, standing
from steelyard.governance.identity import LOCAL_ADMIN_ID, Actor
from steelyard.governance.memberships import hold_owners, require_owner
from steelyard.governance.organizations import ORGANIZATIONS_OF, organization_view
from steelyard.governance.policy import InstallationRole
from steelyard.governance.principals import find_user, free_name, require_open, standing_words
from steelyard.governance.projects import PROJECTS_OF, project_view, within_scope
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, PermissionDenied
from steelyard.specs.access import Permission
from steelyard.specs.identity import MeView, TokenBounds, UserRequest, UserView
from steelyard.storage.database import Database
from steelyard.storage.tables import PrincipalRow

_OWNED = text(
    "SELECT id FROM organizations WHERE 'owner' = ANY (roles_in_organization(id, :principal)) ORDER BY id"
)
_SIGN_OUT = text(
    "UPDATE principals SET sessions_valid_from ="
    " greatest(CAST(:now AS timestamptz), CAST(:began AS timestamptz) + interval '1 microsecond')"
    " WHERE id = :principal"
)


class UserService:
    """Keeps the people of the installation. A deleted one keeps his name for ever; his jobs go on."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def me(self, actor: Actor) -> MeView:
        """Return who the actor is, and all that he has a part in."""
        if actor.kind not in ("user", "service_account"):
            raise PermissionDenied("an attempt is nobody; this is for people and service accounts")
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            row = await session.get_one(PrincipalRow, actor.id)
            everywhere = standing.is_local_admin(actor)
            asked = {"principal": actor.id, "everywhere": everywhere}
            installation = (await standing.in_installation(session, actor)).standing.roles
            organizations = [
                organization_view(each) for each in await session.execute(ORGANIZATIONS_OF, asked)
            ]
            projects = [project_view(each) for each in await session.execute(PROJECTS_OF, asked)]
        return MeView(
            id=row.id,
            kind=row.kind,
            display_name=row.display_name,
            email=row.email,
            is_local_admin=everywhere,
            installation_roles=[InstallationRole.OPERATOR.value] if everywhere else sorted(installation),
            organizations=organizations,
            projects=[project for project in projects if within_scope(actor, project.id)],
            token=_bounds(actor),
        )

    async def begin_session(self, actor: Actor, verb: Literal["session.create", "session.open"]) -> None:
        """Check, by the database and not by what is still believed of it, that another session may begin;
        and put on record that it does: as a link, or as a cookie in exchange for one.

        Otherwise who holds a copy of a session's token could outlive its sign-out by the seconds for which
        tokens are believed, and for ever after.

        Raises:
            PermissionDenied: it isn't a person, or a token with bounds, which a session wouldn't have.
            Unauthenticated: the session was signed out, the token revoked, or the account closed.
        """
        if actor.kind != "user":
            raise PermissionDenied("only people open browser sessions")
        if not actor.scope.is_whole:
            raise PermissionDenied("a session knows no bounds; a token that has some opens none")
        async with self._database.transaction() as session:
            await access.require_active(session, actor)
            await audit.record(session, actor, verb, "user", actor.id)

    async def sign_out(self, actor: Actor) -> None:
        """End all sessions that the actor has begun until now.

        Raises:
            PermissionDenied: it isn't a person, or a token with bounds, which was made for something else.
        """
        if actor.kind != "user":
            raise PermissionDenied("only people have sessions")
        if not actor.scope.is_whole:
            raise PermissionDenied("a token with bounds ends no sessions; sign out with the session itself")
        async with self._database.transaction() as session:
            now = self._clock()
            await session.execute(
                _SIGN_OUT, {"principal": actor.id, "now": now, "began": actor.signed_in_at or now}
            )
            await audit.record(session, actor, "user.sign_out", "user", actor.id)

    async def search(self, actor: Actor) -> list[UserView]:
        """Return all users by name, closed accounts included."""
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_READ)
            query = select(PrincipalRow).where(PrincipalRow.kind == "user").order_by(PrincipalRow.id)
            return [_view(row) for row in await session.scalars(query)]

    async def create(self, actor: Actor, request: UserRequest) -> UserView:
        """Make a user who has never signed in, so that roles can be given to him.

        Raises:
            Conflict: there is one of that name.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
            name = request.email.lower()
            taken = Conflict(f"there is somebody called {name!r}; his name is for ever", param="email")
            if await free_name(session, name) != name:
                raise taken
            row = (
                await session.scalars(
                    insert(PrincipalRow)
                    .values(
                        id=name,
                        kind="user",
                        email=request.email,
                        display_name=request.display_name or request.email,
                        created_by=actor.id,
                    )
                    .on_conflict_do_nothing(index_elements=["id"])
                    .returning(PrincipalRow)
                )
            ).one_or_none()
            if row is None:
                raise taken
            await audit.record(session, actor, "user.create", "user", row.id)
            return _view(row)

    async def disable(self, actor: Actor, user: str) -> UserView:
        """Shut somebody out at once; sessions and tokens of his are refused until he is enabled.

        Raises:
            Conflict: an organization would lose its last owner, or it is the local admin.
        """
        return await self._close(
            actor, user, "user.disable", lambda row: row.disabled_at is None, "disabled_at"
        )

    async def enable(self, actor: Actor, user: str) -> UserView:
        """Let a disabled user in again.

        Raises:
            Conflict: he was deleted.
        """
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
            row = await find_user(session, user, lock=True)
            require_open(row)
            if row.disabled_at is not None:
                before = standing_words(row.disabled_at, row.deleted_at)
                row.disabled_at = None
                after = standing_words(None, row.deleted_at)
                await audit.record_change(session, actor, "user.enable", "user", row.id, before, after)
            return _view(row)

    async def delete(self, actor: Actor, user: str) -> UserView:
        """Close an account for ever; what he made stays under his name, and his jobs go on. As `disable`."""
        return await self._close(actor, user, "user.delete", lambda row: row.deleted_at is None, "deleted_at")

    async def _close(
        self, actor: Actor, user: str, verb: str, is_due: Callable[[PrincipalRow], bool], column: str
    ) -> UserView:
        async with self._database.transaction() as session:
            await access.authorize_installation(session, actor, Permission.ORGANIZATION_WRITE)
            if user == LOCAL_ADMIN_ID:
                raise Conflict(
                    "the local admin is the installation's own; change its token instead", param="user"
                )
            row = await find_user(session, user)
            owned = list(await session.scalars(_OWNED, {"principal": row.id}))
            for organization in owned:
                await hold_owners(session, organization)
            if is_due(row):
                before = standing_words(row.disabled_at, row.deleted_at)
                await session.execute(
                    update(PrincipalRow).where(PrincipalRow.id == row.id).values({column: self._clock()})
                )
                await session.refresh(row)
                for organization in owned:
                    await require_owner(session, organization)
                after = standing_words(row.disabled_at, row.deleted_at)
                await audit.record_change(session, actor, verb, "user", row.id, before, after)
            return _view(row)


async def count_users(session: AsyncSession) -> int:
    """Return how many people can sign in, the local admin included."""
    return (
        await session.scalar(
            select(func.count()).where(
                PrincipalRow.kind == "user",
                PrincipalRow.disabled_at.is_(None),
                PrincipalRow.deleted_at.is_(None),
            )
        )
        or 0
    )


def _bounds(actor: Actor) -> TokenBounds | None:
    if actor.token_id is None:
        return None
    scope = actor.scope
    return TokenBounds(
        id=actor.token_id,
        projects=None if scope.projects is None else sorted(scope.projects),
        permissions=None if scope.permissions is None else sorted(scope.permissions),
    )


def _view(row: PrincipalRow) -> UserView:
    return UserView(
        id=row.id,
        display_name=row.display_name,
        email=row.email,
        issuer=row.issuer,
        created_by=row.created_by,
        created_at=row.created_at,
        last_login_at=row.last_login_at,
        disabled_at=row.disabled_at,
        deleted_at=row.deleted_at,
    )
