"""Finding people and service accounts by the name that others write, and naming new ones."""

from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.kit.errors import Conflict, NotFound
from steelyard.kit.ids import new_id
from steelyard.storage.tables import PrincipalRow

_MOST_NAMESAKES = 20


class Account(NamedTuple):
    """Somebody, as far as it is anybody's business."""

    id: str
    kind: Literal["user", "service_account"]
    display_name: str
    email: str | None
    disabled_at: datetime | None
    deleted_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Neither disabled nor deleted."""
        return self.disabled_at is None and self.deleted_at is None


async def find_grantee(session: AsyncSession, name: str, organization: str | None) -> PrincipalRow:
    """Return who can be given a role: an active user, or a service account of the organization.

    Raises:
        NotFound: there is nobody of that name, or it is another organization's service account.
    """
    row = await session.get(PrincipalRow, name)
    foreign = row is not None and row.organization_id not in (None, organization)
    if row is None or foreign or row.deleted_at is not None:
        raise NotFound(
            f"nobody is called {name!r} here; 'steelyard users list' names who is", param="principal"
        )
    return row


async def find_user(session: AsyncSession, name: str, *, lock: bool = False) -> PrincipalRow:
    """Return a user, closed accounts included.

    Raises:
        NotFound: no user has that name.
    """
    query = select(PrincipalRow).where(PrincipalRow.id == name, PrincipalRow.kind == "user")
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"no user {name!r}; 'steelyard users list' names them", param="user")
    return row


async def free_name(session: AsyncSession, wanted: str | None) -> str:
    """Return a name that nobody ever had, for a new user: `wanted` (his address), or one made from it.

    Names stay what they are, though addresses change, because rows of the past bear them.
    """
    if not wanted:
        return new_id("usr")
    base = wanted.lower()
    names = [base, *(f"{base}.{number}" for number in range(2, _MOST_NAMESAKES))]
    taken = set(await session.scalars(select(PrincipalRow.id).where(func.lower(PrincipalRow.id).in_(names))))
    return next((name for name in names if name not in taken), new_id("usr"))


def standing_words(disabled_at: datetime | None, deleted_at: datetime | None) -> dict[str, bool]:
    """Say for the audit trail whether an account is open."""
    return {"disabled": disabled_at is not None, "deleted": deleted_at is not None}


def require_open(row: PrincipalRow) -> None:
    """Refuse what a closed account can't have done to it.

    Raises:
        Conflict: it was deleted.
    """
    if row.deleted_at is not None:
        raise Conflict(f"{row.id!r} was deleted, which is for ever; make another account")
