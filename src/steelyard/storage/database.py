"""Connections and transactions. Services open a transaction; nothing else commits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from steelyard.kit.errors import Overloaded, StorageFull, Unavailable
from steelyard.storage import scopes
from steelyard.storage.dsn import role_beside, split_tls

_STATEMENT_TIMEOUT_MS = 15_000
_AWAY = frozenset({"57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs of a server that shuts down, has crashed, starts up, or has no connection left."""
_DISK_FULL = "53100"
"""SQLSTATE `disk_full`."""


class Database:
    """A bounded pool of connections to one PostgreSQL database.

    Args:
        dsn: `postgresql://...`, with `sslmode` and its files as for libpq; the driver is asyncpg whatever the
            scheme says.
        pool_size: connections at most; a transaction beyond them waits `pool_timeout_seconds`, then 429.
        takes_on: the DSN logs in as the tables' owner: take on the role of such a process, which owns none.
            As the api's, row-level security holds: a transaction sees no row of a project before
            `governance.access` or `storage.scopes` has let it. A DSN that logs in as that role needs none of
            this.
    """

    def __init__(
        self,
        dsn: str | URL,
        *,
        pool_size: int = 10,
        pool_timeout_seconds: float = 5.0,
        name: str = "steelyard",
        takes_on: Literal["api", "worker"] | None = None,
    ) -> None:
        url, tls = split_tls(make_url(dsn))
        role = {"role": role_beside(url, takes_on)} if takes_on else {}
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_seconds,
            pool_pre_ping=True,
            connect_args={
                **tls,
                "timeout": 5,
                "server_settings": {
                    **role,
                    "application_name": name,
                    "statement_timeout": str(_STATEMENT_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": "60000",
                },
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession]:
        """Open a transaction: commit at the end of the block, roll back on any error.

        Raises:
            Overloaded: no connection came free in time.
            Unavailable: PostgreSQL doesn't answer. Whether the work was committed may be unknown then.
        """
        try:
            async with self._sessions() as session, session.begin():
                await scopes.enter_current(session)
                yield session
        except PoolTimeout as error:
            raise Overloaded("the control plane is busy; try again in a second") from error
        except (OperationalError, InterfaceError, OSError) as error:
            raise _unavailable() from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable() from error
            if is_away(state := sqlstate_of(error)):
                raise _unavailable() from error
            if state == _DISK_FULL:
                raise StorageFull(
                    "the database's disk is full; free some room and send the request again"
                ) from error
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def is_away(state: str | None) -> bool:
    """Whether an SQLSTATE says that the server is starting, stopping, full, or out of reach."""
    return state is not None and (state in _AWAY or state.startswith("08"))


def sqlstate_of(error: DBAPIError) -> str | None:
    """Return the SQLSTATE of an error, which the driver's wrapper may have left to the error it wraps."""
    for source in (error.orig, error.orig.__cause__ if error.orig else None):
        state = getattr(source, "sqlstate", None)
        if state is not None:
            return str(state)
    return None


def _unavailable() -> Unavailable:
    return Unavailable("the database doesn't answer; it is restarted by itself, try again in a few seconds")
