"""The channel against a real HTTP server that goes away, comes back, and refuses."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.attempt_api import STALE, AttemptApi, serve_attempt_api

from steelyard.runtime.link import ApiLink
from steelyard.runtime.reporting import ApiChannel
from steelyard.specs.base import Message
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.reports import (
    MAX_POINTS,
    AttemptReport,
    CheckpointReport,
    CurvePoint,
    Directives,
    EventReport,
)
from steelyard.specs.states import Reason


@pytest.fixture
def api() -> Iterator[AttemptApi]:
    with serve_attempt_api() as api:
        yield api


@pytest.fixture
def open_channel(api: AttemptApi, tmp_path: Path) -> Iterator[Callable[..., ApiChannel]]:
    (tmp_path / "token").write_text("sat_secret\n")
    opened: list[ApiChannel] = []

    def make(lease_seconds: float = 60.0) -> ApiChannel:
        link = ApiLink(api.url, "att_1", tmp_path / "token")
        opened.append(ApiChannel(link, epoch=1, interval_seconds=0.02, lease_seconds=lease_seconds))
        return opened[-1]

    yield make
    for channel in opened:
        channel.close(None, 2.0)


def _until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.002)  # poll of another thread's work


def _progress(step: int) -> AttemptReport:
    return AttemptReport(epoch=1, phase="training", step=step)


class _RestlessLink:
    """With each report that is sent, the next point is there."""

    def __init__(self) -> None:
        self.channel: ApiChannel | None = None
        self.verbs: list[str] = []

    def post(self, verb: str, message: Message, timeout_seconds: float | None = None) -> Directives | None:
        self.verbs.append(verb)
        if self.channel is not None and verb == "report":
            self.channel.add_point(CurvePoint(step=len(self.verbs), name="train/loss", value=0.5))
        return None

    def close(self) -> None:
        return


def _checkpoint(step: int) -> CheckpointReport:
    return CheckpointReport(epoch=1, step=step, path=f"checkpoints/{step}", manifest_digest="d", size_bytes=1)


def _steps(api: AttemptApi) -> list[int]:
    return [point["step"] for body in api.bodies("report") for point in body["points"]]


_OUTCOME = Outcome(
    kind=OutcomeKind.SUCCEEDED, exit_code=ExitCode.DONE, reason=Reason.COMPLETED, message="Done.", step=9
)


class TestReporting:
    def test_reports_carry_the_token_and_the_newest_wins(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        channel = open_channel()
        for step in range(1, 200):
            channel.report(_progress(step))
        _until(lambda: api.bodies("report") and api.bodies("report")[-1]["step"] == 199)
        assert len(api.bodies("report")) < 50
        assert api.tokens == {"Bearer sat_secret"}

    def test_silence_is_no_reason_to_be_silent(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        open_channel()
        _until(lambda: len(api.bodies("report")) > 3)
        assert {body["phase"] for body in api.bodies("report")} == {"loading"}

    def test_every_point_gets_there_in_order_however_long_the_api_is_away(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        api.answers["report"] = (503, {})
        channel = open_channel()
        for step in range(1, 2 * MAX_POINTS + 2):
            channel.add_point(CurvePoint(step=step, name="train/loss", value=None if step == 7 else 0.5))
        _until(lambda: len(api.bodies("report")) > 1)
        del api.answers["report"]
        _until(lambda: _steps(api)[-1:] == [2 * MAX_POINTS + 1])
        channel.close(None, 2.0)
        assert list(dict.fromkeys(_steps(api))) == list(range(1, 2 * MAX_POINTS + 2))
        assert max(len(body["points"]) for body in api.bodies("report")) == MAX_POINTS
        assert api.bodies("report")[-1]["points"] == []

    def test_points_that_come_as_fast_as_they_are_sent_hold_up_no_checkpoint(self) -> None:
        link = _RestlessLink()
        channel = ApiChannel(link, epoch=1, interval_seconds=0.01, lease_seconds=60.0)
        link.channel = channel
        channel.add_point(CurvePoint(step=1, name="train/loss", value=0.5))
        _until(lambda: "report" in link.verbs)
        accepted: list[int] = []
        channel.publish(_checkpoint(10), lambda report: accepted.append(report.step))
        _until(lambda: accepted == [10])
        link.channel = None
        channel.close(None, 5.0)

    def test_checkpoints_wait_for_the_api_and_keep_their_order(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        api.answers["checkpoints"] = (503, {})
        channel = open_channel()
        accepted: list[int] = []
        for step in (10, 20, 30):
            channel.publish(_checkpoint(step), lambda report: accepted.append(report.step))
        _until(lambda: len(api.bodies("checkpoints")) > 1)
        assert accepted == []
        assert not channel.is_fenced
        del api.answers["checkpoints"]
        _until(lambda: accepted == [10, 20, 30])

    def test_a_refused_checkpoint_does_not_hold_up_the_next(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        api.answers["checkpoints"] = (422, {"error": {"type": "t", "code": "invalid", "message": "no"}})
        channel = open_channel()
        accepted: list[int] = []
        channel.publish(_checkpoint(10), lambda report: accepted.append(report.step))
        _until(lambda: api.bodies("checkpoints"))
        del api.answers["checkpoints"]
        channel.publish(_checkpoint(20), lambda report: accepted.append(report.step))
        _until(lambda: accepted == [20])

    def test_directives_are_obeyed(self, api: AttemptApi, open_channel: Callable[..., ApiChannel]) -> None:
        api.answers["report"] = (200, {"lease_seconds": 60.0, "checkpoint": True})
        channel = open_channel()
        _until(channel.take_checkpoint_request)
        assert channel.stop_reason is None
        api.answers["report"] = (200, {"lease_seconds": 60.0, "stop": True})
        _until(lambda: channel.stop_reason is Reason.PREEMPTED)


class TestLease:
    def test_an_api_that_is_away_does_not_stop_training_before_the_lease_is_over(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        api.answers["report"] = (503, {})
        channel = open_channel(lease_seconds=0.3)
        began = time.monotonic()
        assert channel.stop_reason is None
        _until(lambda: channel.stop_reason is Reason.LEASE_LOST)
        assert time.monotonic() - began > 0.25
        assert not channel.is_fenced

    def test_an_answer_renews_it(self, api: AttemptApi, open_channel: Callable[..., ApiChannel]) -> None:
        channel = open_channel(lease_seconds=0.0)
        _until(lambda: channel.stop_reason is None)

    def test_a_stale_lease_fences_for_good(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        api.answers["checkpoints"] = STALE
        channel = open_channel()
        accepted: list[int] = []
        channel.publish(_checkpoint(10), lambda report: accepted.append(report.step))
        _until(lambda: channel.is_fenced)
        count = len(api.seen)
        channel.report(_progress(11))
        channel.event(EventReport(epoch=1, type="t", message="m"))
        channel.close(_OUTCOME, 2.0)
        assert len(api.seen) == count
        assert accepted == []

    def test_any_other_conflict_is_not_a_lost_lease(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        error = {"type": "conflict", "code": "conflict", "message": "exists"}
        api.answers["checkpoints"] = (409, {"error": error})
        channel = open_channel()
        channel.publish(_checkpoint(10), lambda report: None)
        _until(lambda: api.bodies("checkpoints"))
        channel.close(None, 2.0)
        assert not channel.is_fenced


class TestClose:
    def test_what_waits_goes_out_before_the_outcome(
        self, api: AttemptApi, open_channel: Callable[..., ApiChannel]
    ) -> None:
        channel = open_channel()
        channel.report(_progress(9))
        channel.event(EventReport(epoch=1, type="note", message="hello"))
        channel.publish(_checkpoint(9), lambda report: None)
        channel.close(_OUTCOME, 2.0)
        verbs = [verb for verb, _ in api.seen]
        assert verbs[-1] == "result"
        assert {"events", "checkpoints"} <= set(verbs)
        assert api.bodies("report")[-1]["step"] == 9
        assert api.bodies("result") == [{"epoch": 1, "outcome": _OUTCOME.model_dump(mode="json")}]

    def test_an_api_that_is_gone_costs_no_more_than_the_time_given(self, tmp_path: Path) -> None:
        link = ApiLink("http://127.0.0.1:1", "att_1", tmp_path / "token")
        channel = ApiChannel(link, epoch=1, interval_seconds=0.02, lease_seconds=60.0)
        channel.publish(_checkpoint(9), lambda report: None)
        began = time.monotonic()
        channel.close(_OUTCOME, 0.4)
        assert time.monotonic() - began < 1.5
