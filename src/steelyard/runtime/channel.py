"""The line from a trainer to the platform, and the form of it that works with no platform."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from steelyard.specs.outcome import Outcome
from steelyard.specs.reports import AttemptReport, CheckpointReport, CurvePoint, EventReport
from steelyard.specs.states import Reason

Published = Callable[[CheckpointReport], None]
"""Called from the channel's thread once the platform has a checkpoint in its index."""


class Channel(ABC):
    """What rank 0 tells the platform, and what the platform wants of it.

    No method blocks on the network but `close`. Progress is latest-wins; checkpoints and events are sent
    in order, and again until they are accepted or refused for good.
    """

    @abstractmethod
    def report(self, report: AttemptReport) -> None:
        """Put progress up for sending, in place of what was not sent yet."""

    @abstractmethod
    def add_point(self, point: CurvePoint) -> None:
        """Put up a point of a curve. All are sent, in order; the oldest goes where too many wait."""

    @abstractmethod
    def publish(self, report: CheckpointReport, published: Published) -> None:
        """Put a finished checkpoint up for sending. `published` runs once it was accepted."""

    @abstractmethod
    def event(self, report: EventReport) -> None:
        """Put up a sentence for people. Dropped where too many wait."""

    @abstractmethod
    def close(self, outcome: Outcome | None, timeout_seconds: float) -> None:
        """Send what waits and then the outcome, as far as the time reaches; then stop for good."""

    @property
    @abstractmethod
    def is_fenced(self) -> bool:
        """Whether the platform said that a newer attempt has taken over."""

    @property
    @abstractmethod
    def stop_reason(self) -> Reason | None:
        """Why the run should save and leave, where it should."""

    @abstractmethod
    def take_checkpoint_request(self) -> bool:
        """Say whether a checkpoint was asked for since the last call."""


class NullChannel(Channel):
    """No platform: everything is accepted at once, and nothing is ever asked."""

    def report(self, report: AttemptReport) -> None:
        """Drop it."""

    def add_point(self, point: CurvePoint) -> None:
        """Drop it."""

    def publish(self, report: CheckpointReport, published: Published) -> None:
        """Call `published` at once."""
        published(report)

    def event(self, report: EventReport) -> None:
        """Drop it."""

    def close(self, outcome: Outcome | None, timeout_seconds: float) -> None:
        """Return at once."""

    @property
    def is_fenced(self) -> bool:
        """Nobody can take over."""
        return False

    @property
    def stop_reason(self) -> Reason | None:
        """Nobody asks."""
        return None

    def take_checkpoint_request(self) -> bool:
        """Nobody asks."""
        return False
