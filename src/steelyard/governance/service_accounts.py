"""Accounts of programs: an organization's own, named `NAME@ORGANIZATION`. They hold roles as people do."""

from collections.abc import Callable

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance import access, audit
from steelyard.governance.identity import Actor
from steelyard.governance.memberships import hold_owners, require_owner
from steelyard.governance.principals import require_open, standing_words
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.identity import ServiceAccountRequest, ServiceAccountView
from steelyard.storage.database import Database
from steelyard.storage.tables import PrincipalRow

_IS_OWNER = text("SELECT 'owner' = ANY (roles_in_organization(:organization, :principal))")


class ServiceAccountService:
    """Keeps the service accounts of organizations."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, actor: Actor, organization: str, request: ServiceAccountRequest
    ) -> ServiceAccountView:
        """Make an account without any role.

        Raises:
            Conflict: there is or was one of that name.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.ORGANIZATION_WRITE
            )
            row = await session.scalar(
                insert(PrincipalRow)
                .values(
                    id=f"{request.name}@{checked}",
                    kind="service_account",
                    organization_id=checked,
                    display_name=request.display_name or request.name,
                    created_by=actor.id,
                )
                .on_conflict_do_nothing(index_elements=["id"])
                .returning(PrincipalRow)
            )
            if row is None:
                raise Conflict(
                    f"the name {request.name!r} is taken, perhaps by a deleted account; choose another",
                    param="name",
                )
            await audit.record(
                session, actor, "service_account.create", "service_account", row.id,
                detail={"organization": checked},
            )  # fmt: skip
            return _view(row)

    async def search(self, actor: Actor, organization: str) -> list[ServiceAccountView]:
        """Return an organization's accounts by name, closed ones included."""
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.MEMBER_READ
            )
            query = select(PrincipalRow).where(PrincipalRow.organization_id == checked)
            return [_view(row) for row in await session.scalars(query.order_by(PrincipalRow.id))]

    async def disable(self, actor: Actor, organization: str, account: str) -> ServiceAccountView:
        """Refuse all tokens of an account until it is enabled."""

        def close(row: PrincipalRow) -> None:
            row.disabled_at = row.disabled_at or self._clock()

        return await self._change(actor, organization, account, "disable", close)

    async def enable(self, actor: Actor, organization: str, account: str) -> ServiceAccountView:
        """Let a disabled account in again.

        Raises:
            Conflict: it was deleted.
        """

        def reopen(row: PrincipalRow) -> None:
            require_open(row)
            row.disabled_at = None

        return await self._change(actor, organization, account, "enable", reopen)

    async def delete(self, actor: Actor, organization: str, account: str) -> ServiceAccountView:
        """Close an account for ever. What it made stays under its name; its running jobs go on."""

        def close(row: PrincipalRow) -> None:
            row.deleted_at = row.deleted_at or self._clock()

        return await self._change(actor, organization, account, "delete", close)

    async def _change(
        self,
        actor: Actor,
        organization: str,
        account: str,
        verb: str,
        change: Callable[[PrincipalRow], None],
    ) -> ServiceAccountView:
        async with self._database.transaction() as session:
            checked = await access.authorize_organization(
                session, actor, organization, Permission.ORGANIZATION_WRITE
            )
            await hold_owners(session, checked)
            row = await find_account(session, checked, account)
            before = (row.disabled_at, row.deleted_at)
            is_owner = await session.scalar(_IS_OWNER, {"organization": checked, "principal": row.id})
            change(row)
            if before != (row.disabled_at, row.deleted_at):
                await session.flush()
                if is_owner and verb != "enable":
                    await require_owner(session, checked)
                await audit.record_change(
                    session, actor, f"service_account.{verb}", "service_account", row.id,
                    standing_words(*before), standing_words(row.disabled_at, row.deleted_at),
                    detail={"organization": checked},
                )  # fmt: skip
            return _view(row)


async def find_account(
    session: AsyncSession, organization: access.OrganizationId, account: str
) -> PrincipalRow:
    """Return a service account of an organization, by its id or its name alone.

    Raises:
        NotFound: the organization has none of that name.
    """
    name = account if "@" in account else f"{account}@{organization}"
    row = await session.get(PrincipalRow, name)
    if row is None or row.organization_id != organization:
        raise NotFound(
            f"no service account {account!r} in organization {organization!r};"
            " 'steelyard service-accounts list' names them",
            param="account",
        )
    return row


def _view(row: PrincipalRow) -> ServiceAccountView:
    return ServiceAccountView(
        id=row.id,
        organization_id=row.organization_id or "",
        display_name=row.display_name,
        created_by=row.created_by,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        deleted_at=row.deleted_at,
    )
