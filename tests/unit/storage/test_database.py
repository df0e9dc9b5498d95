"""Which of PostgreSQL's errors mean that it is away for a moment."""

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from steelyard.storage.database import is_away, sqlstate_of


def _wrapped(cause: Exception) -> DBAPIError:
    translated = Exception(str(cause))
    translated.__cause__ = cause
    return DBAPIError("SELECT 1", None, translated)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError("the database system is not yet accepting connections"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.CrashShutdownError("terminating connection because of crash of another server process"),
        asyncpg.TooManyConnectionsError("too many clients already"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
)
def test_a_server_that_comes_back_is_away(error: Exception) -> None:
    assert is_away(sqlstate_of(_wrapped(error)))


def test_a_fault_of_the_statement_is_not() -> None:
    assert not is_away(sqlstate_of(_wrapped(asyncpg.UniqueViolationError("duplicate key"))))
    assert not is_away(sqlstate_of(_wrapped(ValueError("no state"))))
