"""The one tree of errors.

Every class has a machine `code`, an HTTP status, whether the same call may succeed later
(`retryable`), and a `message` that names the remedy. The API maps any of them to
`{"error": {...}}`; activities map the non-retryable ones to Temporal's non-retryable failures.
"""

from typing import ClassVar


class SteelyardError(Exception):
    """Base of all errors that the platform raises on purpose.

    Attributes:
        message: a sentence for a person, with what to do next.
        param: path of the field at fault (`training.max_steps`), where there is one.
        details: further facts for machines; never a secret.
    """

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details


class InvalidRequest(SteelyardError):
    """The request can't be understood or breaks a rule; sending it again won't help."""

    code = "invalid_request"
    http_status = 422


class InvalidSpec(InvalidRequest):
    """A job or dataset spec breaks a rule. `param` names the field."""

    code = "invalid_spec"


class InvalidDataset(InvalidRequest):
    """Data that can't be ingested. The message names file and line; `details["faults"]` lists more."""

    code = "invalid_dataset"


class NotSupported(SteelyardError):
    """The request is right, but this version can't do it yet."""

    code = "not_supported"
    http_status = 501


class Unauthenticated(SteelyardError):
    """No token, or one that is not known."""

    code = "unauthenticated"
    http_status = 401


class PermissionDenied(SteelyardError):
    """The caller may see the thing but not do this to it."""

    code = "permission_denied"
    http_status = 403


class NotFound(SteelyardError):
    """The thing doesn't exist, or isn't the caller's to know of."""

    code = "not_found"
    http_status = 404


class Conflict(SteelyardError):
    """The thing's present state doesn't allow this."""

    code = "conflict"
    http_status = 409


class InvalidTransition(Conflict):
    """A verb that the job's state doesn't allow; the message names the state."""

    code = "invalid_transition"


class StaleLease(Conflict):
    """A report of an attempt that a newer one has replaced. The sender must stop and write nothing."""

    code = "stale_lease"


class TamperedTrail(Conflict):
    """The audit trail isn't what was signed. Nothing more is signed until somebody has looked."""

    code = "audit_tampered"


class IdempotencyMismatch(InvalidRequest):
    """An idempotency key that came before with another body. `details` holds the stored job's id."""

    code = "idempotency_key_reused"


class QuotaExceeded(SteelyardError):
    """More than the project or the pool has."""

    code = "quota_exceeded"
    http_status = 422


class BudgetExceeded(SteelyardError):
    """More than the project's budget has left. `details` holds limit, spent, reserved, asked, left."""

    code = "budget_exceeded"
    http_status = 402


class Overloaded(SteelyardError):
    """The control plane sheds load; come back after `Retry-After`."""

    code = "overloaded"
    http_status = 429
    retryable = True


class Unavailable(SteelyardError):
    """Something the platform needs doesn't answer just now."""

    code = "unavailable"
    http_status = 503
    retryable = True


class StorageFull(SteelyardError):
    """No room on the disk; the message names the folder and how much is needed."""

    code = "disk_full"
    http_status = 507
