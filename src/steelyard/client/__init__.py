"""The Python SDK: the HTTP API as typed methods, blocking and for asyncio.

Requests are built and answers read in one place (`job_calls`, `call`); `Client` and `AsyncClient` are two
thin transports around it. Imports no server library.
"""

from steelyard.client.async_client import AsyncClient
from steelyard.client.errors import (
    BadRequest,
    BudgetExceeded,
    ClientError,
    Conflict,
    ConnectionFailed,
    ConnectionTimedOut,
    CredentialsUnreadable,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    SteelyardApiError,
    Unauthenticated,
    UnprocessableEntity,
    UnreadableAnswer,
    WaitTimedOut,
)
from steelyard.client.retries import RetryPolicy
from steelyard.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "BadRequest",
    "BudgetExceeded",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "ConnectionTimedOut",
    "CredentialsUnreadable",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "RetryPolicy",
    "ServerError",
    "SteelyardApiError",
    "Unauthenticated",
    "UnprocessableEntity",
    "UnreadableAnswer",
    "WaitTimedOut",
]
