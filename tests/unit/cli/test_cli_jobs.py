"""Looking at jobs and asking things of them."""

import pytest
from tests.scripted_api import (
    END,
    JOBS,
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
from tests.unit.cli.conftest import Steelyard

GET = f"{JOBS}/job_1"
LONG_ID = "job_06dqmvx1b8w2n5t7c9k3r4y6z0"


class TestList:
    def test_a_table_that_fits(
        self, api: ScriptedApi, steelyard: Steelyard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        long = job("awaiting_approval", id=LONG_ID, step=123, name="a-name-that-is-long-enough-to-be-cut-off")
        api.on("GET", JOBS, ok({"data": [long], "has_more": True, "next": LONG_ID}))
        monkeypatch.setattr("steelyard.cli.output._PIPE_WIDTH", 80)

        result = steelyard("list")

        lines = result.out.splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert len(lines) == 2
        assert LONG_ID in lines[1]
        assert "awaiting_approval" in lines[1]
        assert f"--after {LONG_ID}" in result.err

    def test_json_is_the_page(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", JOBS, ok({"data": [job()], "has_more": True, "next": "job_1"}))

        result = steelyard("list", "--json", "--limit", "1", "--state", "running", "--tag", "a=b")

        assert (result.json["data"][0]["id"], result.json["next"]) == ("job_1", "job_1")
        assert api.seen[0].query == {"limit": "1", "state": "running", "tag": "a=b"}

    def test_all_pages(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        first = {"data": [job(id="job_2")], "has_more": True, "next": "job_2"}
        api.on("GET", JOBS, ok(first), ok({"data": [job()], "has_more": False, "next": None}))

        result = steelyard("list", "--all", "--json")

        assert [one["id"] for one in result.json["data"]] == ["job_2", "job_1"]
        assert result.json["has_more"] is False

    def test_none_yet(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", JOBS, ok({"data": [], "has_more": False, "next": None}))
        assert "steelyard submit" in steelyard("list").out

    @pytest.mark.parametrize("arguments", [("--state", "runing"), ("--tag", "x"), ("--limit", "0")])
    def test_filters_that_are_none(
        self, api: ScriptedApi, steelyard: Steelyard, arguments: tuple[str, str]
    ) -> None:
        assert steelyard("list", *arguments).code == 2
        assert api.seen == []


class TestGet:
    def test_all_that_one_wants_to_know(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        whole = job(
            "failed",
            step=12,
            status_reason="nan_loss",
            status_message="the loss is no number; lower the rate\x1b[2J",
            attempts=[attempt(1, "ended", cause="nan_loss", counted=True)],
            metrics={"base/heldout/loss": 3.21, "tuned/heldout/loss": 2.5},
            model={"name": "m", "version": 2, "manifest_digest": "sha256:x"},
        )
        api.on("GET", GET, ok(whole))

        out = steelyard("get", "job_1").out

        for words in ("nan_loss", "lower the rate", "12/60", "3.21", "2.5", "m version 2", "(counted)"):
            assert words in out
        assert "\x1b" not in out

    def test_json_is_the_view(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job(attempts=[attempt()])))

        view = steelyard("get", "job_1", "--json").json

        assert {"id", "state", "status_reason", "status_message", "progress", "attempts"} <= set(view)

    def test_the_latest(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", JOBS, ok({"data": [job()], "has_more": True, "next": "job_1"}))
        api.on("GET", GET, ok(job()))

        assert steelyard("get", "@latest", "--json").json["id"] == "job_1"
        assert api.seen[0].query["limit"] == "1"

    def test_there_is_no_latest(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", JOBS, ok({"data": [], "has_more": False, "next": None}))
        assert steelyard("get", "@latest").code == 4

    @pytest.mark.parametrize(
        ("status", "code"),
        [(401, 8), (403, 8), (404, 4), (409, 5), (422, 2), (429, 3), (500, 9), (501, 2), (503, 3)],
    )
    def test_exit_codes(self, api: ScriptedApi, steelyard: Steelyard, status: int, code: int) -> None:
        api.on("GET", GET, failure(status, "some_code", "do this"))

        human, machine = steelyard("get", "job_1"), steelyard("get", "job_1", "--json")

        assert (human.code, machine.code) == (code, code)
        assert (human.out, machine.out) == ("", "")
        assert "do this" in human.err
        assert "req_1" in human.err
        assert machine.error["code"] == "some_code"


class TestMore:
    def test_explain(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        view = {
            "id": "job_1",
            "state": "queued",
            "status_reason": "waiting_for_capacity",
            "summary": "waits for 2 cpus",
            "queue_position": 4,
            "waiting_for": ["job_0 ends"],
            "attempts": ["1: preempted, 3 steps lost"],
            "cost": None,
        }
        api.on("GET", f"{GET}/explain", ok(view))

        out = steelyard("explain", "job_1").out

        for words in ("waits for 2 cpus", "4", "job_0 ends", "3 steps lost"):
            assert words in out
        assert steelyard("explain", "job_1", "--json").json == view

    def test_attempts_and_checkpoints(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        point = {
            "id": "ckpt_1",
            "step": 20,
            "attempt_number": 1,
            "path": "checkpoints/e00001/step-00000020",
            "manifest_digest": "sha256:x",
            "size_bytes": 2_100_000,
            "status": "available",
            "created_at": "2026-11-24T06:00:00Z",
        }
        api.on("GET", GET, ok(job(attempts=[attempt(1, "ended", cause="preempted")])))
        api.on("GET", f"{GET}/checkpoints", ok({"data": [point]}))

        assert "preempted" in steelyard("attempts", "job_1").out
        assert "2.1 MB" in steelyard("checkpoints", "job_1").out
        assert steelyard("checkpoints", "job_1", "--json").json["data"][0]["step"] == 20


class TestControl:
    @pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
    def test_a_verb(self, api: ScriptedApi, steelyard: Steelyard, verb: str) -> None:
        api.on("POST", f"{GET}/{verb}", ok(job("pausing", status_message="saving"), 202))

        assert "job_1 is pausing: saving" in steelyard(verb, "job_1").out
        assert steelyard(verb, "job_1", "--json").json["state"] == "pausing"

    def test_a_verb_that_can_not_be(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("POST", f"{GET}/pause", failure(409, "invalid_transition", "can't pause a job that is failed"))

        result = steelyard("pause", "job_1")

        assert result.code == 5
        assert "that is failed" in result.err

    def test_retry_from_somewhere(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("POST", f"{GET}/retry", ok(job("queued"), 202))

        steelyard("retry", "job_1")
        steelyard("retry", "job_1", "--step", "20")
        steelyard("retry", "job_1", "--from-checkpoint", "ckpt_1")

        assert [seen.json for seen in api.seen] == [
            {"checkpoint": None, "step": None},
            {"checkpoint": None, "step": 20},
            {"checkpoint": "ckpt_1", "step": None},
        ]
        assert steelyard("retry", "job_1", "--step", "1", "--from-checkpoint", "c").code == 2

    def test_priority(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("POST", f"{GET}/priority", ok(job(priority=900), 202))

        assert "900" in steelyard("set-priority", "job_1", "900").out
        assert api.seen[0].json == {"priority": 900}
        assert steelyard("set-priority", "job_1", "1001").code == 2

    def test_many_are_cancelled_at_once(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        results = [
            {"id": "job_1", "accepted": True, "message": ""},
            {"id": "job_2", "accepted": False, "message": "has ended"},
        ]
        api.on("POST", f"{JOBS}/cancel", ok({"data": results}, 202))

        result = steelyard("cancel", "job_1", "job_2")
        assert result.code == 5
        assert "job_2: has ended" in result.out
        steelyard("cancel", "--all")
        steelyard("cancel", "--tag", "team=a")

        assert [seen.json for seen in api.seen] == [
            {"ids": ["job_1", "job_2"]},
            {"all": True},
            {"tag": "team=a"},
        ]

    @pytest.mark.parametrize("arguments", [(), ("job_1", "--all"), ("--all", "--tag", "a=b"), ("--tag", "x")])
    def test_cancel_says_what_or_does_nothing(
        self, api: ScriptedApi, steelyard: Steelyard, arguments: tuple[str, ...]
    ) -> None:
        assert steelyard("cancel", *arguments).code == 2
        assert api.seen == []


class TestStreams:
    def test_logs_as_they_are(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job(attempts=[attempt()])))
        api.on("GET", f"{GET}/logs", streamed("[bold]step 1[/bold]\n", "{'loss': 1}\n"))

        assert steelyard("logs", "job_1", "--tail", "9").out == "[bold]step 1[/bold]\n{'loss': 1}\n"
        assert steelyard("logs", "job_1", "--json").out == (
            '{"line": "[bold]step 1[/bold]"}\n{"line": "{\'loss\': 1}"}\n'
        )

    def test_events_stored_and_followed(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", f"{GET}/events", ok({"data": [event(1, "went on")], "has_more": False, "next": None}))
        api.on("GET", f"{GET}/events/stream", streamed(frame(1), broken=True), streamed(frame(2), END))

        assert "went on" in steelyard("events", "job_1").out
        assert steelyard("events", "job_1", "--json").json["data"][0]["id"] == 1
        followed = steelyard("events", "job_1", "-f", "--json")
        assert [line[:8] for line in followed.out.splitlines()] == ['{"id":1,', '{"id":2,']
        assert followed.err == ""


class TestWait:
    def test_one_line_per_change(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on(
            "GET",
            GET,
            ok(job("queued", step=0)),
            ok(job(step=1)),
            ok(job(step=1)),
            ok(job(step=2)),
            ok(job("succeeded", step=60, model={"name": "m", "version": 1, "manifest_digest": "sha256:x"})),
        )

        result = steelyard("wait", "job_1")

        assert result.code == 0
        lines = result.out.splitlines()
        assert [("1/60" in line, "2/60" in line) for line in lines[1:3]] == [(True, False), (False, True)]
        assert "succeeded" in lines[3]
        assert lines[-1] == "Registered as m version 1."

    def test_an_outage_is_survived_and_said(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job()), drop, drop, failure(503, "unavailable", "later"), ok(job("succeeded")))

        human = steelyard("wait", "job_1")

        assert human.code == 0
        assert human.err.count("trying on") == 1

    def test_many_end_with_the_worst(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job("cancelled")))
        api.on("GET", f"{JOBS}/job_2", ok(job("failed", id="job_2", status_reason="nan_loss")))

        result = steelyard("wait", "job_1", "job_2", "--json")

        assert result.code == 1
        assert [one["state"] for one in result.json["data"]] == ["cancelled", "failed"]
        assert "nan_loss" in steelyard("wait", "job_2").out

    def test_time_is_up(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job()))

        result = steelyard("wait", "job_1", "--timeout", "0.05", "--json")

        assert (result.code, result.out) == (7, "")
        assert result.error["code"] == "wait_timed_out"

    def test_ctrl_c_detaches(
        self, api: ScriptedApi, steelyard: Steelyard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api.on("GET", GET, ok(job()))

        def interrupt(_seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("time.sleep", interrupt)

        result = steelyard("wait", "job_1")

        assert result.code == 130
        assert "steelyard wait job_1" in result.err
