"""What a long command says while the platform is away: once per outage, on stderr."""

import time

from steelyard.cli.output import Screen
from steelyard.client.errors import ClientError

_SILENCE_SECONDS = 15.0


class OutageNotice:
    """Called at each failed try; speaks at the first, and again after a while."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._spoke_at: float | None = None

    def __call__(self, error: ClientError) -> None:
        """Say that the platform is away, unless that was said just now."""
        now = time.monotonic()
        if self._quiet or (self._spoke_at is not None and now - self._spoke_at < _SILENCE_SECONDS):
            return
        self._spoke_at = now
        Screen(stderr=True).print(
            f"The platform doesn't answer; the job is safe, trying on. ({error.message})"
        )
