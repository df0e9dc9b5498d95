"""One request and how its answer is read, as a value: all that the two transports have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Generic, TypeVar

import httpx
from pydantic import ValidationError

from steelyard.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionTimedOut,
    SteelyardApiError,
    UnreadableAnswer,
    error_class,
)
from steelyard.kit.clock import utc_now
from steelyard.specs.views import ErrorBody, ErrorResponse

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request to the API. `path` is quoted already; `content` is JSON."""

    method: str
    path: str
    parse: Callable[[bytes], Answer]
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None
    file: Path | None = None
    """A file that is streamed as the body, in place of `content`."""
    timeout_seconds: float | None = None
    """How long one try may take, where that is longer than usual."""
    also_accept: frozenset[int] = frozenset()
    """Statuses of 400 or more whose body is an answer all the same."""


def read_answer(call: Call[Answer], status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """Parse an answer into its model.

    Raises:
        SteelyardApiError: the status says so.
        UnreadableAnswer: the body isn't what the call promises.
    """
    if status >= 400 and status not in call.also_accept:
        raise read_error(status, headers, content)
    if status >= 300 and status not in call.also_accept:
        raise UnreadableAnswer(
            f"{call.method} {call.path} was redirected ({status}); check the platform's address."
        )
    try:
        return call.parse(content)
    except ValidationError as cause:
        places = ", ".join(".".join(map(str, error["loc"])) or "body" for error in cause.errors()[:3])
        raise UnreadableAnswer(
            f"The answer to {call.method} {call.path} can't be understood (at {places}). Is the address "
            "Steelyard's, and are client and platform of about the same version?"
        ) from None


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> SteelyardApiError:
    """Turn an answer of status 400 or more into its exception; a proxy's HTML page gives one as well."""
    try:
        body = ErrorResponse.model_validate_json(content).error
    except ValidationError:
        body = ErrorBody(
            type="http_error",
            code=f"http_{status}",
            message=f"HTTP {status} from something that isn't Steelyard's API; check the address, "
            "or look at `steelyard status`.",
        )
    return error_class(status)(
        status,
        body,
        request_id=headers.get("x-request-id"),
        retry_after_seconds=_retry_after_seconds(headers.get("retry-after")),
    )


def read_failure(cause: httpx.HTTPError, api_url: str) -> ClientError:
    """Turn what httpx raised into our own exception, which names the address and the remedy."""
    timed_out = isinstance(cause, httpx.TimeoutException)
    kind = ConnectionTimedOut if timed_out else ConnectionFailed
    what = "doesn't answer in time" if timed_out else "can't be reached"
    reason = str(cause) or type(cause).__name__
    return kind(
        f"Steelyard {what} at {api_url} ({reason}). `steelyard status` shows what is running, "
        "`steelyard up` starts it.",
        api_url=api_url,
    )


def _retry_after_seconds(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - utc_now()).total_seconds())
    except (ValueError, TypeError):
        return None
