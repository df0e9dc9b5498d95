"""Which rows a transaction sees, behind row-level security (migration 0011). Each lasts for a transaction.

`governance.access` sets them together with its checks; the others here are for code that has checked by
itself. For a connection as the tables' owner they change nothing.
"""

import contextlib
from collections.abc import AsyncGenerator, Generator
from contextvars import ContextVar
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_attempt: ContextVar[str | None] = ContextVar("attempt_of_transactions", default=None)
_ENTER_ATTEMPT = text("SELECT set_config('steelyard.project', project_of_attempt(:attempt), true)")
_ENTER_INSTALLATION = text("SELECT set_config('steelyard.installation', :how, true)")


@contextlib.contextmanager
def attempt_scope(attempt_id: str) -> Generator[None]:
    """Let the transactions that are opened within see the rows of the attempt's project.

    For whoever has checked that the caller is this attempt.
    """
    token = _attempt.set(attempt_id)
    try:
        yield
    finally:
        _attempt.reset(token)


async def enter_current(session: AsyncSession) -> None:
    """Let a new transaction see what `attempt_scope` says, if we are within one."""
    attempt_id = _attempt.get()
    if attempt_id is not None:
        await session.execute(_ENTER_ATTEMPT, {"attempt": attempt_id})


async def enter_installation(session: AsyncSession, how: Literal["read", "write"]) -> None:
    """Let the rest of the transaction see all rows. For what is of the whole pool: who waits before whom."""
    await session.execute(_ENTER_INSTALLATION, {"how": how})


@contextlib.asynccontextmanager
async def pool_view(session: AsyncSession) -> AsyncGenerator[None]:
    """Let the block see the rows of all projects, to read: a job's place in the queue depends on them.

    Nothing of other projects but counts and sums may leave the block.
    """
    await enter_installation(session, "read")
    yield
    await session.execute(_ENTER_INSTALLATION, {"how": ""})
