"""Calls over a network that misbehaves."""

import json
import socket
from pathlib import Path

import pytest
from tests.scripted_api import JOBS, QUICK, ScriptedApi, drop, failure, job, ok, text

from steelyard.client import (
    Client,
    Conflict,
    ConnectionFailed,
    ConnectionTimedOut,
    NotFound,
    PermissionDenied,
    RateLimited,
    RetryPolicy,
    ServerError,
    SteelyardApiError,
    Unauthenticated,
    UnprocessableEntity,
    UnreadableAnswer,
)
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.states import JobState

SPEC = {"api_version": "steelyard/v1", "type": "fine_tune", "name": "a"}


class TestSubmit:
    def test_sends_spec_token_and_a_key(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, ok(job("validating"), 202))

        submitted = client.jobs.submit(SPEC)

        assert submitted.state is JobState.VALIDATING
        (seen,) = api.seen
        assert seen.json == SPEC
        assert seen.headers["authorization"] == "Bearer sy_secret"
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["idempotency-key"]

    def test_a_dropped_reply_is_retried_with_the_same_key(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, drop, drop, ok(job(), 202))

        client.jobs.submit(SPEC)

        keys = {seen.headers["idempotency-key"] for seen in api.seen}
        assert len(api.seen) == 3
        assert len(keys) == 1

    def test_two_calls_have_two_keys(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, ok(job(), 202))

        client.jobs.submit(SPEC)
        client.jobs.submit(SPEC)

        assert len({seen.headers["idempotency-key"] for seen in api.seen}) == 2

    def test_ones_own_key_is_used(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, ok(job(), 202))

        client.jobs.submit(SPEC, idempotency_key="nightly-7")

        assert api.seen[0].headers["idempotency-key"] == "nightly-7"

    def test_a_failed_submission_tells_its_key(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, drop)

        with pytest.raises(ConnectionFailed) as caught:
            client.jobs.submit(SPEC)

        assert len(api.seen) == 1 + QUICK.max_retries
        assert caught.value.idempotency_key == api.seen[0].headers["idempotency-key"]

    @pytest.mark.parametrize(("status", "open_question"), [(422, False), (501, False), (500, True)])
    def test_only_an_error_that_leaves_it_open_tells_the_key(
        self, api: ScriptedApi, client: Client, status: int, open_question: bool
    ) -> None:
        api.on("POST", JOBS, failure(status, "code", "message"))

        with pytest.raises(SteelyardApiError) as caught:
            client.jobs.submit(SPEC)

        assert (caught.value.idempotency_key is not None) == open_question

    def test_a_model_is_sent_as_it_was_written(self, api: ScriptedApi, client: Client) -> None:
        api.on("POST", JOBS, ok(job(), 202))
        written = {
            **SPEC,
            "method": "script",
            "script": {"filename": "t.py", "source": "print()"},
            "training": {"learning_rate": 2e-4},
        }

        client.jobs.submit(FineTuneSpec.model_validate_json(json.dumps(written)))

        assert api.seen[0].json == written

    def test_a_path_is_read_with_its_script(self, api: ScriptedApi, client: Client, tmp_path: Path) -> None:
        api.on("POST", JOBS, ok(job(), 202))
        (tmp_path / "t.py").write_text("print('é')\n", encoding="utf-8")
        (tmp_path / "job.yaml").write_text("name: a\nscript:\n  path: t.py\n", encoding="utf-8")

        client.jobs.submit(tmp_path / "job.yaml")

        assert api.seen[0].json == {"name": "a", "script": {"filename": "t.py", "source": "print('é')\n"}}


class TestRetries:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_passing_trouble_is_waited_out(self, api: ScriptedApi, client: Client, status: int) -> None:
        api.on("GET", f"{JOBS}/job_1", failure(status, "overloaded", "later"), ok(job()))

        assert client.jobs.get("job_1").id == "job_1"
        assert len(api.seen) == 2

    def test_retry_after_is_a_lower_bound(
        self, api: ScriptedApi, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("time.sleep", pauses.append)
        busy = failure(429, "overloaded", "later", headers={"Retry-After": "7"})
        api.on("GET", f"{JOBS}/job_1", busy, ok(job()))

        client.jobs.get("job_1")

        assert pauses == [7.0]

    def test_a_retry_after_beyond_bounds_ends_the_retries(self, api: ScriptedApi, client: Client) -> None:
        busy = failure(503, "unavailable", "later", headers={"Retry-After": "3600"})
        api.on("GET", f"{JOBS}/job_1", busy)

        with pytest.raises(ServerError) as caught:
            client.jobs.get("job_1")

        assert len(api.seen) == 1
        assert caught.value.retry_after_seconds == 3600

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 501])
    def test_what_will_not_pass_is_not_retried(self, api: ScriptedApi, client: Client, status: int) -> None:
        api.on("GET", f"{JOBS}/job_1", failure(status, "code", "message"))

        with pytest.raises(SteelyardApiError):
            client.jobs.get("job_1")

        assert len(api.seen) == 1

    def test_a_command_whose_reply_was_lost_carries_its_key_again(
        self, api: ScriptedApi, client: Client
    ) -> None:
        api.on("POST", f"{JOBS}/job_1/retry", drop, ok(job("queued"), 202))

        assert client.jobs.retry("job_1", step=20).state is JobState.QUEUED

        first, second = api.seen
        assert first.json == second.json == {"checkpoint": None, "step": 20}
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]

    def test_a_silent_platform_times_out(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            policy = RetryPolicy(max_retries=1, base_seconds=0.01)
            with (
                Client(api_url=url, token="t", timeout_seconds=0.05, retry=policy) as client,
                pytest.raises(ConnectionTimedOut, match="in time"),
            ):
                client.jobs.get("job_1")

    def test_no_platform_names_address_and_remedy(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(api_url=url, token="sy_secret", retry=QUICK) as client:
            with pytest.raises(ConnectionFailed, match="steelyard up") as caught:
                client.jobs.get("job_1")
            assert url in caught.value.message
            assert "sy_secret" not in repr(caught.value) + repr(client) + caught.value.message


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (401, Unauthenticated),
            (403, PermissionDenied),
            (404, NotFound),
            (409, Conflict),
            (422, UnprocessableEntity),
            (500, ServerError),
        ],
    )
    def test_each_status_has_its_class_and_facts(
        self, api: ScriptedApi, client: Client, status: int, kind: type[SteelyardApiError]
    ) -> None:
        api.on("GET", f"{JOBS}/job_1", failure(status, "some_code", "do this", "a.b", {"x": 1}))

        with pytest.raises(kind) as caught:
            client.jobs.get("job_1")

        error = caught.value
        assert (error.http_status, error.code, error.message) == (status, "some_code", "do this")
        assert (error.param, error.details, error.request_id) == ("a.b", {"x": 1}, "req_1")

    def test_too_much_is_rate_limited_in_the_end(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", f"{JOBS}/job_1", failure(429, "overloaded", "later"))

        with pytest.raises(RateLimited):
            client.jobs.get("job_1")

    def test_a_proxys_page_is_told_from_an_answer(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", f"{JOBS}/job_1", text("<html>nope</html>", 404))
        api.on("GET", f"{JOBS}/job_2", text("<html>welcome</html>"))
        api.on("GET", f"{JOBS}/job_3", text("", 302, {"Location": "http://elsewhere.invalid/"}))

        with pytest.raises(NotFound, match="isn't Steelyard's API"):
            client.jobs.get("job_1")
        for name in ("job_2", "job_3"):
            with pytest.raises(UnreadableAnswer):
                client.jobs.get(name)


class TestRequests:
    def test_filters_of_a_list(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", JOBS, ok({"data": [], "has_more": False, "next": None}))

        client.jobs.list(
            states=["running"], type="hpo", tags={"team": "a=b"}, name="n", limit=3, after="job_0"
        )

        expected = {
            "limit": "3", "state": "running", "type": "hpo", "tag": "team=a=b", "name": "n", "after": "job_0"
        }  # fmt: skip
        assert api.seen[0].query == expected

    def test_iterate_reads_page_after_page(self, api: ScriptedApi, client: Client) -> None:
        first = {"data": [job(id="job_3"), job(id="job_2")], "has_more": True, "next": "job_2"}
        last = {"data": [job(id="job_1")], "has_more": False, "next": None}
        api.on("GET", JOBS, ok(first), ok(last))

        assert [found.id for found in client.jobs.iterate()] == ["job_3", "job_2", "job_1"]
        assert api.seen[1].query["after"] == "job_2"

    def test_ids_are_quoted(self, api: ScriptedApi, client: Client) -> None:
        with pytest.raises(NotFound):
            client.jobs.get("../../x?y")

        assert api.seen[0].raw_path == f"{JOBS}/..%2F..%2Fx%3Fy"
        assert api.seen[0].query == {}

    @pytest.mark.parametrize("name", ["", ".", ".."])
    def test_ids_that_are_paths_are_refused(self, api: ScriptedApi, client: Client, name: str) -> None:
        with pytest.raises(ValueError, match="named by its id"):
            client.jobs.cancel(name)
        assert api.seen == []

    def test_bulk_cancel_takes_one_choice(self, api: ScriptedApi, client: Client) -> None:
        api.on(
            "POST", f"{JOBS}/cancel", ok({"data": [{"id": "job_1", "accepted": True, "message": ""}]}, 202)
        )

        assert client.jobs.cancel_many(["job_1", "job_2"])[0].accepted
        client.jobs.cancel_many(tag=("team", "a"))
        client.jobs.cancel_many(everything=True)

        assert [seen.json for seen in api.seen] == [
            {"ids": ["job_1", "job_2"]},
            {"tag": "team=a"},
            {"all": True},
        ]
        with pytest.raises(ValueError, match="exactly one"):
            client.jobs.cancel_many(["job_1"], everything=True)

    def test_unready_is_an_answer(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", "/readyz", ok({"status": "unavailable", "checks": {"database": "down"}}, 503))

        health = client.health()

        assert not health.ready
        assert health.checks == {"database": "down"}
        assert len(api.seen) == 1

    def test_schemas_by_type(self, api: ScriptedApi, client: Client) -> None:
        api.on("GET", "/v1/schemas", ok({"data": [{"type": "hpo", "schema": {"title": "HpoSpec"}}]}))

        assert client.schemas() == {"hpo": {"title": "HpoSpec"}}
