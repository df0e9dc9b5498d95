"""The state of long reads: where each stands, and what comes next. Pure; the transports do the reading.

All of them survive the platform's going away: they take up again where they were, so that nothing is
missed and nothing is given twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

from pydantic import ValidationError

from steelyard.client import job_calls, promotion_calls
from steelyard.client.call import Call
from steelyard.client.errors import ClientError, UnreadableAnswer, WaitTimedOut
from steelyard.client.lines import LineSplitter
from steelyard.client.retries import Retries, RetryPolicy
from steelyard.client.sse import SseDecoder
from steelyard.specs.promotions import RegistryEventView
from steelyard.specs.states import TERMINAL_STATES
from steelyard.specs.views import AttemptView, EventView, JobView

OnOutage: TypeAlias = Callable[[ClientError], object]
"""Told of each failed try of a long read, before the pause that follows it."""

_ENDLESS = 1 << 62


class Outage:
    """The tries to reach a platform that has gone away in the middle of a long read."""

    def __init__(self, policy: RetryPolicy, max_seconds: float | None, on_outage: OnOutage | None) -> None:
        self._retries = Retries(replace(policy, max_retries=_ENDLESS))
        self._max_seconds = max_seconds
        self._on_outage = on_outage
        self._since: float | None = None

    def pause_seconds(self, error: ClientError) -> float:
        """Return how long to pause after a failure; raise it where waiting can't mend it."""
        now = time.monotonic()
        self._since = self._since if self._since is not None else now
        pause = self._retries.pause_seconds(error)
        too_long = self._max_seconds is not None and now - self._since >= self._max_seconds
        if pause is None or too_long:
            raise error
        if self._on_outage:
            self._on_outage(error)
        return pause

    def over(self) -> None:
        """Take note that the platform is there again."""
        self._since = None
        self._retries.reset()


class Numbered(Protocol):
    """An event: later ones have greater ids."""

    id: int


Event = TypeVar("Event", bound=Numbered)


class EventCursor(Generic[Event]):
    """A place in a stream of events.

    Args:
        reader: builds the call that reads on after an event's id.
        parse: makes an event of its JSON.
    """

    def __init__(
        self,
        reader: Callable[[str | None], Call[bytes]],
        parse: Callable[[str], Event],
        after: str | None,
    ) -> None:
        self._reader = reader
        self._parse = parse
        self.after = after
        self.finished = False
        """Nothing more comes, as where a job has ended, and every event was given."""
        self._lines = LineSplitter()
        self._decoder = SseDecoder()

    def open(self) -> Call[bytes]:
        """Return the call that reads on from here."""
        self._lines = LineSplitter()
        self._decoder = SseDecoder()
        return self._reader(self.after)

    def feed(self, chunk: bytes) -> list[Event]:
        """Take bytes of the stream, return the events they end."""
        found: list[Event] = []
        for line in self._lines.feed(chunk):
            message = self._decoder.feed(line)
            if message is None or self.finished:
                continue
            if message.event == "end":
                self.finished = True
                continue
            event = self._parsed(message.data)
            if self.after is None or not self.after.isdecimal() or event.id > int(self.after):
                self.after = str(event.id)
                found.append(event)
        return found

    def _parsed(self, data: str) -> Event:
        try:
            return self._parse(data)
        except ValidationError:
            raise UnreadableAnswer(
                "The stream of events can't be understood; are client and platform of about the same version?"
            ) from None


def events_of_job(project: str, job: str, after: str | None) -> EventCursor[EventView]:
    """Return a place in a job's events; they end with the job."""
    return EventCursor(partial(job_calls.event_stream, project, job), EventView.model_validate_json, after)


def events_of_model(project: str, name: str, after: str | None) -> EventCursor[RegistryEventView]:
    """Return a place in a model's events, which never end."""
    reader = partial(promotion_calls.event_stream, project, name)
    return EventCursor(reader, RegistryEventView.model_validate_json, after)


class LogCursor:
    """A place in a job's logs, from attempt to attempt.

    With `follow` and no attempt named, each new attempt is read after the one before it, until the job
    ends. The end of a stream alone is not believed: an api that shuts down ends its streams too. A log is
    done when a read that began after the attempt's end came to its end.
    """

    def __init__(self, project: str, job: str, attempt: int | None, follow: bool, tail: int | None) -> None:
        self._project = project
        self._job = job
        self._wanted = attempt
        self._follow = follow
        self._tail = tail
        self._number: int | None = None
        self._offset: int | None = None
        self._reads_last = False
        self._read_whole = False
        self._job_over = False
        self._is_newest = False
        self._lines = LineSplitter()
        self.finished = False

    def aim(self, view: JobView) -> bool:
        """Choose what to read by the job's present state. Return whether there is something."""
        self._job_over = view.state in TERMINAL_STATES
        if view.children is not None:
            # It has no log of its own; asked for one, the api says which jobs have.
            self._number = self._wanted or 1
            return True
        current = self._attempt(view, self._number)
        if current is None or self._read_whole:
            current = self._next_attempt(view)
            if current is None:
                self.finished = not self._follow or self._job_over
                return False
            self._enter(current)
        self._is_newest = all(attempt.number <= current.number for attempt in view.attempts)
        self._reads_last = not self._follow or current.state == "ended"
        return True

    def open(self) -> Call[bytes]:
        """Return the call that reads on from here."""
        assert self._number is not None
        return job_calls.log_stream(
            self._project,
            self._job,
            self._number,
            follow=self._follow and not self._reads_last,
            offset=self._offset,
            tail_lines=self._tail,
        )

    def begin(self, headers: Mapping[str, str]) -> None:
        """Take note of where the opened stream starts."""
        start = headers.get("x-log-offset")
        self._lines.restart(int(start) if start and start.isdecimal() else self._offset or 0)
        self._offset = self._lines.consumed_bytes

    def feed(self, chunk: bytes) -> list[str]:
        """Take bytes of the log, return the lines they end."""
        lines = self._lines.feed(chunk)
        self._offset = self._lines.consumed_bytes
        return lines

    def end(self) -> list[str]:
        """Take note that the stream ended in good order; return an unfinished last line, if it is final."""
        if not self._reads_last:
            return []
        self._read_whole = True
        no_more = not self._follow or self._wanted is not None
        self.finished = no_more or (self._job_over and self._is_newest)
        return self._lines.finish()

    def _attempt(self, view: JobView, number: int | None) -> AttemptView | None:
        return next((attempt for attempt in view.attempts if attempt.number == number), None)

    def _next_attempt(self, view: JobView) -> AttemptView | None:
        if self._wanted is not None:
            return None if self._read_whole else self._attempt(view, self._wanted)
        newer = sorted((a for a in view.attempts if a.number > (self._number or 0)), key=lambda a: a.number)
        if not newer or (self._read_whole and not self._follow):
            return None
        return newer[-1] if self._number is None else newer[0]

    def _enter(self, attempt: AttemptView) -> None:
        if self._number is not None:
            self._tail = None
        self._number, self._offset, self._read_whole = attempt.number, None, False


class JobWatch:
    """Jobs that are looked at until all have ended."""

    def __init__(self, jobs: Sequence[str], timeout_seconds: float | None) -> None:
        self._views: dict[str, JobView | None] = dict.fromkeys(jobs)
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds

    def pending(self) -> list[str]:
        """Return the jobs that haven't ended."""
        return [job for job, view in self._views.items() if view is None or view.state not in TERMINAL_STATES]

    def take(self, job: str, view: JobView) -> bool:
        """Take a look's result. Return whether anything changed."""
        changed = self._views[job] != view
        self._views[job] = view
        return changed

    def pause_seconds(self, wanted: float) -> float:
        """Return how long to pause before the next look, never past the deadline.

        Raises:
            WaitTimedOut: the deadline has passed.
        """
        if self._deadline is None:
            return wanted
        left = self._deadline - time.monotonic()
        if left > 0:
            return min(wanted, left)
        jobs = ", ".join(self.pending())
        raise WaitTimedOut(
            f"{jobs} did not end in {self._timeout_seconds:g} seconds and goes on. "
            f"Wait again with `steelyard wait`, or look why with `steelyard explain`."
        )
