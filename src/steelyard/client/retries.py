"""When a call is tried again: jittered, growing pauses, and the platform's own `Retry-After`."""

import random
from dataclasses import dataclass

from steelyard.client.errors import ClientError, ConnectionFailed, SteelyardApiError

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the retries of one call.

    The n-th pause is drawn between half of and all of `base_seconds * 2**n`, at most `cap_seconds`
    (so that clients that failed together don't come back together). A `Retry-After` is a lower bound; one
    beyond `max_retry_after_seconds` ends the retries. The defaults add up to 4 to 8 seconds, in which a
    supervisor has started a killed api again.
    """

    max_retries: int = 5
    base_seconds: float = 0.25
    cap_seconds: float = 8.0
    max_retry_after_seconds: float = 60.0
    look_seconds: float = 1.0
    """Pause between two looks at something that is waited for."""


def is_passing(error: ClientError) -> bool:
    """Whether the same call may well succeed in a while."""
    if isinstance(error, SteelyardApiError):
        return error.http_status in _RETRIED_STATUSES
    return isinstance(error, ConnectionFailed)


class Retries:
    """The retries of one call; or, reset after each success, of one long stream."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def pause_seconds(self, error: ClientError) -> float | None:
        """Take note of a failure. Return how long to pause, or None where there is no further try."""
        if not is_passing(error) or self._failures >= self._policy.max_retries:
            return None
        wanted = error.retry_after_seconds if isinstance(error, SteelyardApiError) else None
        if wanted is not None and wanted > self._policy.max_retry_after_seconds:
            return None
        pause = self._backoff_seconds()
        self._failures += 1
        return max(pause, wanted or 0.0)

    def reset(self) -> None:
        """Take note of a success."""
        self._failures = 0

    def _backoff_seconds(self) -> float:
        exponent = min(self._failures, 30)
        ceiling = min(self._policy.cap_seconds, self._policy.base_seconds * 2.0**exponent)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
