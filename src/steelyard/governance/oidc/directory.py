"""People as their provider vouches for them: made at the first sign-in, brought up to date at each."""

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import audit
from steelyard.governance.identity import LOCAL_ADMIN_ID, Actor
from steelyard.governance.oidc.provider import ExternalIdentity
from steelyard.governance.principals import free_name
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Unauthenticated
from steelyard.kit.ids import new_id
from steelyard.storage.database import Database
from steelyard.storage.tables import PrincipalGroupRow, PrincipalRow


class Directory:
    """Finds or makes the user behind an identity. Roles follow groups, by the organization's mappings."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def sign_in(self, identity: ExternalIdentity) -> str:
        """Return the principal's id. Two sign-ins of a new user at once make one.

        Raises:
            Unauthenticated: the user is disabled or was deleted.
        """
        async with self._database.transaction() as session:
            principal = await self._find_or_make(session, identity)
            if principal.disabled_at is not None or principal.deleted_at is not None:
                raise Unauthenticated("this user is disabled here; ask an owner of the organization")
            await session.execute(
                update(PrincipalRow)
                .where(PrincipalRow.id == principal.id)
                .values(
                    email=identity.email,
                    display_name=identity.display_name or principal.display_name,
                    last_login_at=self._clock(),
                )
            )
            await self._replace_groups(session, principal.id, identity)
            await audit.record(
                session, Actor(kind="user", id=principal.id), "user.login", "user", principal.id,
                detail={"issuer": identity.issuer, "groups": list(identity.groups)},
            )  # fmt: skip
            return principal.id

    async def _find_or_make(self, session: AsyncSession, identity: ExternalIdentity) -> PrincipalRow:
        query = (
            select(PrincipalRow)
            .where(PrincipalRow.issuer == identity.issuer, PrincipalRow.subject == identity.subject)
            .with_for_update()
        )
        if (known := await session.scalar(query)) is not None:
            return known
        if not await self._take_prepared(session, identity):
            # Called as others write of him, so that lists and the trail can be read without looking ids up.
            await _make(session, identity, await free_name(session, identity.email))
        if (made := await session.scalar(query)) is not None:
            return made
        await _make(session, identity, new_id("usr"))
        return (await session.scalars(query)).one()

    async def _take_prepared(self, session: AsyncSession, identity: ExternalIdentity) -> bool:
        """Give the identity the user that was made for its (verified) address before, if there is one."""
        if not identity.email:
            return False
        taken = await session.scalar(
            update(PrincipalRow)
            .where(
                PrincipalRow.id == identity.email.lower(),
                PrincipalRow.id != LOCAL_ADMIN_ID,
                PrincipalRow.kind == "user",
                PrincipalRow.issuer.is_(None),
                PrincipalRow.deleted_at.is_(None),
            )
            .values(issuer=identity.issuer, subject=identity.subject)
            .returning(PrincipalRow.id)
        )
        return taken is not None

    async def _replace_groups(
        self, session: AsyncSession, principal_id: str, identity: ExternalIdentity
    ) -> None:
        await session.execute(delete(PrincipalGroupRow).where(PrincipalGroupRow.principal_id == principal_id))
        if identity.groups:
            rows = [
                {"principal_id": principal_id, "issuer": identity.issuer, "group_name": group}
                for group in identity.groups
            ]
            await session.execute(insert(PrincipalGroupRow), rows)


async def _make(session: AsyncSession, identity: ExternalIdentity, name: str) -> None:
    """Insert the user, unless another sign-in of his, or somebody of that name, came first."""
    await session.execute(
        upsert(PrincipalRow)
        .values(
            id=name,
            kind="user",
            email=identity.email,
            display_name=identity.display_name or identity.email or identity.subject,
            issuer=identity.issuer,
            subject=identity.subject,
            created_by="system",
        )
        .on_conflict_do_nothing()
    )
