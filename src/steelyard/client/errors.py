"""What the SDK raises.

Two branches: `SteelyardApiError`, where the platform answered and refused, and `ConnectionFailed`, where
no answer came. No message, argument or attribute of any of them holds a token.
"""

from typing import Any

from steelyard.specs.views import ErrorBody


class ClientError(Exception):
    """Base of all that the SDK raises.

    Attributes:
        message: a sentence for a person, with what to do next.
        idempotency_key: the key of the submission that failed. Submit again with it, and there is one
            job, whatever became of this call.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.idempotency_key: str | None = None


class SteelyardApiError(ClientError):
    """The platform answered with an error.

    Attributes:
        http_status: status of the answer.
        code: machine code, such as `invalid_transition`.
        param: path of the field at fault, such as `training.max_steps`.
        request_id: what to look for in the platform's logs.
        retry_after_seconds: when the platform asks to be left alone until then.
    """

    def __init__(
        self,
        http_status: int,
        body: ErrorBody,
        *,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(body.message)
        self.http_status = http_status
        self.type = body.type
        self.code = body.code
        self.param = body.param
        self.details: dict[str, Any] = body.details
        self.request_id = body.request_id or request_id
        self.retry_after_seconds = retry_after_seconds


class BadRequest(SteelyardApiError):
    """400: not understood."""


class Unauthenticated(SteelyardApiError):
    """401: no token, or one that isn't known."""


class BudgetExceeded(SteelyardApiError):
    """402: more than the project's budget has left; `details` has the numbers, and what would fit."""


class PermissionDenied(SteelyardApiError):
    """403: known, but not allowed."""


class NotFound(SteelyardApiError):
    """404: no such thing in this project."""


class Conflict(SteelyardApiError):
    """409: the thing's state doesn't allow it; the message names the state."""


class UnprocessableEntity(SteelyardApiError):
    """422: breaks a rule; `param` names the field."""


class RateLimited(SteelyardApiError):
    """429: too much at once, after all retries."""


class ServerError(SteelyardApiError):
    """5xx: the platform's own fault, or something that it can't do yet (501)."""


class ConnectionFailed(ClientError):
    """No answer.

    Attributes:
        api_url: where the platform was looked for; None where no address is known.
    """

    def __init__(self, message: str, *, api_url: str | None = None) -> None:
        super().__init__(message)
        self.api_url = api_url


class ConnectionTimedOut(ConnectionFailed):
    """No answer in time."""


class UnreadableAnswer(ClientError):
    """Something answered, but not in Steelyard's language: a wrong address, or versions too far apart."""


class CredentialsUnreadable(ClientError):
    """There is a token, but this user may not read it, or it is no token."""


class WaitTimedOut(ClientError, TimeoutError):
    """The job didn't end in the time given. It goes on."""


_BY_STATUS: dict[int, type[SteelyardApiError]] = {
    400: BadRequest,
    401: Unauthenticated,
    402: BudgetExceeded,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: UnprocessableEntity,
    429: RateLimited,
}


def error_class(http_status: int) -> type[SteelyardApiError]:
    """Return the class that stands for a status of 400 or more."""
    if http_status >= 500:
        return ServerError
    return _BY_STATUS.get(http_status, SteelyardApiError)
