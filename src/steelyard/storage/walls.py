"""Whether a connection can get around row-level security (migration 0011)."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Of who logged in, because that is whom `RESET ROLE` goes back to.
_CAN_PASS = text(
    "SELECT rolsuper OR rolbypassrls OR pg_has_role(session_user, relowner, 'MEMBER')"
    " FROM pg_roles, pg_class WHERE rolname = session_user AND pg_class.oid = 'public.projects'::regclass"
)


async def can_pass_wall(session: AsyncSession) -> bool:
    """Say whether who logged in could become the tables' owner, and so see and change all rows."""
    return bool(await session.scalar(_CAN_PASS))
