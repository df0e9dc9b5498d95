"""The channel over HTTP: a thread of its own, so that a training step never waits for the network.

The lease: every answer renews it. While the api is away, training goes on and the thread tries again;
when the lease has run out, `stop_reason` says so, and the trainer saves and leaves.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from steelyard.kit.errors import Conflict, InvalidRequest, StaleLease, Unavailable
from steelyard.runtime.channel import Channel, Published
from steelyard.specs.base import Message
from steelyard.specs.outcome import Outcome
from steelyard.specs.reports import (
    MAX_POINTS,
    AttemptReport,
    CheckpointReport,
    CurvePoint,
    Directives,
    EventReport,
    ResultReport,
)
from steelyard.specs.states import Reason

_MAX_EVENTS = 256
_MAX_WAITING_POINTS = 10_000
_FIRST_DELAY_SECONDS = 0.25
_MAX_DELAY_SECONDS = 5.0
_RESULT_TIMEOUT_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Link(Protocol):
    """See `steelyard.runtime.link.ApiLink`."""

    def post(self, verb: str, message: Message, timeout_seconds: float | None = None) -> Directives | None:
        """Send one message."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class ApiChannel(Channel):
    """Reports to the api. Made and closed by the main thread; all calls are safe from any thread."""

    def __init__(
        self,
        link: Link,
        epoch: int,
        interval_seconds: float,
        lease_seconds: float,
        utilisation: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._utilisation = utilisation
        self._link = link
        self._epoch = epoch
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._latest = AttemptReport(epoch=epoch, phase="loading")
        self._checkpoints: deque[tuple[CheckpointReport, Published]] = deque()
        self._events: deque[EventReport] = deque(maxlen=_MAX_EVENTS)
        self._points: deque[CurvePoint] = deque(maxlen=_MAX_WAITING_POINTS)
        self._lease_ends = time.monotonic() + lease_seconds
        self._stop_asked = False
        self._checkpoint_asked = False
        self._fenced = False
        self._closing: float | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="steelyard-report", daemon=True)
        self._thread.start()

    def report(self, report: AttemptReport) -> None:
        """Keep `report` as the newest; a change of phase is sent at once."""
        with self._lock:
            changed = report.phase != self._latest.phase
            self._latest = report
        if changed:
            self._wake.set()

    def add_point(self, point: CurvePoint) -> None:
        """Queue a point, which goes with a report; the oldest goes where 10,000 wait."""
        with self._lock:
            self._points.append(point)

    def publish(self, report: CheckpointReport, published: Published) -> None:
        """Queue a checkpoint; sent at once where the api is there."""
        with self._lock:
            self._checkpoints.append((report, published))
        self._wake.set()

    def event(self, report: EventReport) -> None:
        """Queue an event; the oldest goes where 256 wait."""
        with self._lock:
            self._events.append(report)
        self._wake.set()

    def close(self, outcome: Outcome | None, timeout_seconds: float) -> None:
        """Let the thread empty its queues, then send the outcome. A fenced channel sends nothing."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            self._closing = deadline
        self._wake.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return
        if outcome is not None and self._failures == 0 and not self._fenced:
            self._send_result(outcome)
        self._link.close()

    @property
    def is_fenced(self) -> bool:
        """Whether a 409 `stale_lease` came."""
        return self._fenced

    @property
    def stop_reason(self) -> Reason | None:
        """The api's wish, or a lease that has run out."""
        if self._stop_asked:
            return Reason.PREEMPTED
        return Reason.LEASE_LOST if time.monotonic() > self._lease_ends else None

    def take_checkpoint_request(self) -> bool:
        """Say whether a checkpoint was asked for since the last call."""
        with self._lock:
            asked, self._checkpoint_asked = self._checkpoint_asked, False
        return asked

    def _run(self) -> None:
        while not self._fenced:
            # Looked at before sending: what was queued while a pass was under way needs another one.
            closing = self._closing
            sent = self._send_all()
            if closing is not None and (sent or time.monotonic() >= closing):
                return
            self._wake.wait(self._interval_seconds if sent else self._delay_seconds())
            self._wake.clear()

    def _delay_seconds(self) -> float:
        if self._closing is not None:
            return _FIRST_DELAY_SECONDS
        return min(_FIRST_DELAY_SECONDS * 2 ** min(self._failures - 1, 10), _MAX_DELAY_SECONDS)

    def _send_all(self) -> bool:
        """Send what waits, in order; return whether all of it got through."""
        try:
            self._send_checkpoints()
            self._send_events()
            self._send_progress()
        except StaleLease as error:
            _log.warning("a newer attempt has taken over, leaving: %s", error.message)
            self._fenced = True
            return False
        except Unavailable as error:
            self._failures += 1
            if self._failures in (1, 10, 100):
                _log.warning("%s", error.message)
            return False
        self._failures = 0
        return True

    def _send_checkpoints(self) -> None:
        while self._checkpoints:
            report, published = self._checkpoints[0]
            if self._post("checkpoints", report):
                published(report)
            with self._lock:
                self._checkpoints.popleft()

    def _send_events(self) -> None:
        while self._events:
            self._post("events", self._events[0])
            with self._lock:
                self._events.popleft()

    def _send_progress(self) -> None:
        """Send the newest report with the points that wait; those that come meanwhile go with the next, as
        checkpoints would wait for ever where points come as fast as they are sent."""
        more = True
        while more:
            with self._lock:
                report, points = self._latest, list(islice(self._points, MAX_POINTS))
            told = {"gpu_utilisation": self._utilisation(), "points": points}
            self._post("report", report.model_copy(update=told))
            more = self._forget(points)

    def _forget(self, points: list[CurvePoint]) -> bool:
        """Take points that got through from the queue; whether there were more than one report holds."""
        sent = {id(point) for point in points}
        with self._lock:
            while self._points and id(self._points[0]) in sent:
                self._points.popleft()
            return len(points) == MAX_POINTS and bool(self._points)

    def _send_result(self, outcome: Outcome) -> None:
        try:
            self._link.post(
                "result", ResultReport(epoch=self._epoch, outcome=outcome), _RESULT_TIMEOUT_SECONDS
            )
        except (StaleLease, Conflict, InvalidRequest, Unavailable) as error:
            _log.warning("the outcome is in outcome.json; the api did not take it: %s", error.message)

    def _post(self, verb: str, message: Message) -> bool:
        """Send one message; return False where it was refused for good."""
        try:
            directives = self._link.post(verb, message)
        except StaleLease:
            raise
        except (Conflict, InvalidRequest) as error:
            _log.warning("the api refused a %s report: %s", verb, error.message)
            return False
        if directives is not None:
            self._obey(directives)
        return True

    def _obey(self, directives: Directives) -> None:
        with self._lock:
            self._lease_ends = time.monotonic() + directives.lease_seconds
            self._stop_asked = self._stop_asked or directives.stop
            self._checkpoint_asked = self._checkpoint_asked or directives.checkpoint
