"""Long reads: events, logs and waiting, over streams that break and a platform that goes away."""

import itertools

import pytest
from tests.scripted_api import (
    END,
    JOBS,
    QUICK,
    ScriptedApi,
    attempt,
    drop,
    event,
    failure,
    frame,
    job,
    ok,
    streamed,
)

from steelyard.client import (
    AsyncClient,
    Client,
    ClientError,
    NotFound,
    ServerError,
    Unauthenticated,
    UnreadableAnswer,
    WaitTimedOut,
)
from steelyard.specs.states import JobState

STREAM = f"{JOBS}/job_1/events/stream"
LOGS = f"{JOBS}/job_1/logs"
GET = f"{JOBS}/job_1"


class TestEvents:
    def test_stored_ones_come_page_by_page(self, api: ScriptedApi, client: Client) -> None:
        first = {"data": [event(1), event(2)], "has_more": True, "next": "2"}
        last = {"data": [event(3)], "has_more": False, "next": None}
        api.on("GET", f"{JOBS}/job_1/events", ok(first), ok(last))

        assert [found.id for found in client.jobs.events("job_1")] == [1, 2, 3]
        assert api.seen[1].query["after"] == "2"

    def test_following_takes_up_a_broken_stream_after_the_last_event(
        self, api: ScriptedApi, client: Client
    ) -> None:
        whole = frame(3)
        api.on(
            "GET",
            STREAM,
            streamed(": ping\n\n", frame(1), frame(2), whole[: len(whole) // 2], broken=True),
            failure(503, "unavailable", "later"),
            streamed(frame(2), frame(3)),  # ends in good order, as a shut down api does; 2 comes twice
            streamed(END),
        )
        outages: list[ClientError] = []

        found = list(client.jobs.events("job_1", follow=True, on_outage=outages.append))

        assert [one.id for one in found] == [1, 2, 3]
        assert [seen.headers.get("last-event-id") for seen in api.seen] == [None, "2", "2", "3"]
        assert len(outages) == 2

    def test_text_may_hold_what_python_takes_for_line_ends(self, api: ScriptedApi, client: Client) -> None:
        message = "a\u2028b\x85c"
        api.on("GET", STREAM, streamed(frame(1, message), END))

        assert [one.message for one in client.jobs.events("job_1", follow=True)] == [message]

    def test_following_ends_at_what_waiting_cannot_mend(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", STREAM, streamed(frame(1), broken=True), failure(404, "not_found", "gone"))

        events = client.jobs.events("job_1", follow=True)

        assert next(events).id == 1
        with pytest.raises(NotFound):
            next(events)

    def test_an_outage_has_a_bound(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", STREAM, failure(503, "unavailable", "later"))

        with pytest.raises(ServerError):
            list(client.jobs.events("job_1", follow=True, max_outage_seconds=0.05))
        assert len(api.seen) > 1

    def test_what_is_no_event_is_said_so(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", STREAM, streamed("id: 1\nevent: x\ndata: {}\n\n"))

        with pytest.raises(UnreadableAnswer, match="version"):
            list(client.jobs.events("job_1", follow=True))

    async def test_the_same_for_asyncio(self, api: ScriptedApi) -> None:
        api.on("GET", STREAM, streamed(frame(1), broken=True), streamed(frame(2), END))

        async with AsyncClient(api_url=api.url, token="t", project="default", retry=QUICK) as client:
            found = [one.id async for one in client.jobs.events("job_1", follow=True)]

        assert found == [1, 2]


class TestLogs:
    def test_the_newest_attempt_is_read(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job(attempts=[attempt(1, "ended"), attempt(2)])))
        api.on("GET", LOGS, streamed("one\ntw", "o\r\nthree"))

        assert list(client.jobs.logs("job_1", tail_lines=5)) == ["one", "two", "three"]
        (seen,) = api.calls("GET", LOGS)
        assert seen.query == {"attempt": "2", "follow": "false", "tail_lines": "5"}

    def test_a_break_inside_a_line_loses_and_doubles_nothing(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job("failed", attempts=[attempt(1, "ended")])))
        api.on(
            "GET",
            LOGS,
            streamed("one\nzw", broken=True, headers={"X-Log-Offset": "100"}),
            streamed("zwei\ndrei\n", headers={"X-Log-Offset": "104"}),
        )

        assert list(client.jobs.logs("job_1", tail_lines=3)) == ["one", "zwei", "drei"]
        assert [seen.query.get("offset") for seen in api.calls("GET", LOGS)] == [None, "104"]

    def test_no_attempt_yet_is_an_empty_log(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job("queued")))

        assert list(client.jobs.logs("job_1")) == []

    def test_following_goes_from_attempt_to_attempt(self, api: ScriptedApi, client: Client) -> None:
        one, two = attempt(1), attempt(2)
        api.on(
            "GET",
            GET,
            ok(job("queued")),
            ok(job(attempts=[one])),
            ok(job(attempts=[one])),  # the stream ended, but the attempt has not: an api was shut down
            ok(job("recovering", attempts=[attempt(1, "ended")])),
            ok(job(attempts=[attempt(1, "ended"), two])),
            ok(job("succeeded", attempts=[attempt(1, "ended"), attempt(2, "ended")])),
        )
        api.on(
            "GET",
            LOGS,
            streamed("a\n"),
            streamed("b\n"),
            streamed("c"),  # the rest, read after the attempt's end
            streamed("d\n"),
            streamed("e\n"),
        )

        assert list(client.jobs.logs("job_1", follow=True)) == ["a", "b", "c", "d", "e"]
        asked = [
            (seen.query["attempt"], seen.query["follow"], seen.query.get("offset"))
            for seen in api.calls("GET", LOGS)
        ]
        assert asked == [
            ("1", "true", None),
            ("1", "true", "2"),
            ("1", "false", "4"),
            ("2", "true", None),
            ("2", "false", "2"),
        ]

    def test_a_log_that_is_not_there_yet_is_waited_for(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job(attempts=[attempt(1)])), ok(job("failed", attempts=[attempt(1, "ended")])))
        api.on("GET", LOGS, failure(404, "not_found", "no log yet"), streamed("late\n"))

        assert list(client.jobs.logs("job_1", follow=True)) == ["late"]

    def test_a_named_attempt_alone(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job(attempts=[attempt(1, "ended"), attempt(2)])))
        api.on("GET", LOGS, streamed("old\n"))

        assert list(client.jobs.logs("job_1", attempt=1, follow=True)) == ["old"]
        assert api.calls("GET", LOGS)[0].query["attempt"] == "1"

    async def test_the_same_for_asyncio(self, api: ScriptedApi) -> None:
        api.on("GET", GET, ok(job("failed", attempts=[attempt(1, "ended")])))
        api.on("GET", LOGS, streamed("one\nzw", broken=True), streamed("zwei\n"))

        async with AsyncClient(api_url=api.url, token="t", project="default", retry=QUICK) as client:
            lines = [line async for line in client.jobs.logs("job_1")]

        assert lines == ["one", "zwei"]
        assert api.calls("GET", LOGS)[1].query["offset"] == "4"


class TestWait:
    def test_through_an_outage_to_the_end(self, api: ScriptedApi, client: Client) -> None:
        api.on(
            "GET",
            GET,
            ok(job(step=1)),
            ok(job(step=1)),
            drop,
            failure(503, "unavailable", "later"),
            ok(job(step=2)),
            ok(job("succeeded", step=60)),
        )
        steps: list[int] = []
        outages: list[ClientError] = []

        done = client.jobs.wait(
            "job_1", on_progress=lambda view: steps.append(view.progress.step), on_outage=outages.append
        )

        assert done.state is JobState.SUCCEEDED
        assert steps == [1, 2, 60]
        assert len(outages) == 2

    def test_gives_up_in_time(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job()))

        with pytest.raises(WaitTimedOut, match="job_1") as caught:
            client.jobs.wait("job_1", timeout_seconds=0.05)
        assert isinstance(caught.value, TimeoutError)

    def test_an_unknown_job_is_not_waited_for(self, api: ScriptedApi, client: Client) -> None:
        with pytest.raises(NotFound):
            client.jobs.wait("job_1")

    def test_a_token_that_is_no_longer_known_ends_it(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job()), failure(401, "unauthenticated", "who?"))

        with pytest.raises(Unauthenticated):
            client.jobs.wait("job_1")

    def test_many_until_all_have_ended(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", GET, ok(job("failed")))
        api.on("GET", f"{JOBS}/job_2", ok(job(id="job_2")), ok(job("succeeded", id="job_2")))

        seen = [(view.id, view.state.value) for view in client.jobs.watch("job_1", "job_2")]

        assert seen == [("job_1", "failed"), ("job_2", "running"), ("job_2", "succeeded")]

    async def test_the_same_for_asyncio(self, api: ScriptedApi) -> None:
        api.on("GET", GET, ok(job()), drop, ok(job("cancelled")))

        async with AsyncClient(api_url=api.url, token="t", project="default", retry=QUICK) as client:
            done = await client.jobs.wait("job_1")

        assert done.state is JobState.CANCELLED


def test_a_stream_left_early_leaves_the_client_usable(api: ScriptedApi, client: Client) -> None:
    api.on("GET", STREAM, streamed(*(frame(number) for number in range(1, 50)), END))
    api.on("GET", GET, ok(job()))

    for _ in range(20):
        events = client.jobs.events("job_1", follow=True)
        assert [one.id for one in itertools.islice(events, 2)] == [1, 2]
        del events
    assert client.jobs.get("job_1").id == "job_1"
