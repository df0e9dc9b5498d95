"""`trials`: a search's trials as a table, as JSON, and as they come."""

import json
from typing import Any

import pytest
from tests.scripted_api import JOBS, ScriptedApi, drop, failure, job, ok
from tests.unit.cli.conftest import Steelyard

GET = f"{JOBS}/job_1"
TRIALS = f"{GET}/trials"
SEARCH = {"metric": "heldout/loss", "direction": "minimize"}


def search(state: str = "running", **more: Any) -> dict[str, Any]:
    return job(state, type="hpo", name="search", spec={"search": SEARCH}, children={"running": 1}, **more)


def trial(number: int, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "job": f"job_t{number}",
        "state": "running",
        "status_reason": None,
        "status_message": None,
        "parameters": {"training.learning_rate": 0.001, "peft.r": 8},
        "value": None,
        "is_final": False,
        "is_best": False,
        "step": 10 * number,
        "curve": None,
        "started_at": "2026-11-01T12:00:00Z",
        "ended_at": None,
    } | more


BEST = trial(1, state="succeeded", value=2.5, is_final=True, is_best=True, ended_at="2026-11-01T12:01:00Z")
PRUNED = trial(2, state="cancelled", status_reason="pruned", value=4.0)
PAGE = {"data": [trial(0, value=3.0), BEST, PRUNED], "has_more": True, "next": "2"}


class TestTrials:
    def test_a_table_with_the_best_marked(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(search()))
        api.on("GET", TRIALS, ok(PAGE))

        result = steelyard("trials", "job_1")

        head, titles, *rows = result.out.splitlines()
        assert head.split() == ["search", "job_1", "heldout/loss", "(minimize)"]
        assert titles.split() == ["TRIAL", "STATE", "VALUE", "STEP", "r", "learning_rate", "TIME", "JOB"]
        assert rows[0].split()[:4] == ["0000", "running", "(3)", "0"]
        assert rows[1].split()[:5] == ["0001", "*", "succeeded", "2.5", "10"]
        assert rows[2].split()[:4] == ["0002", "pruned", "(4)", "20"]
        assert "--after 2" in result.err
        assert api.seen[-1].query == {"limit": "50", "sort": "number"}

    def test_a_narrow_screen_keeps_what_trials_are_worth(
        self, api: ScriptedApi, steelyard: Steelyard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        long = {"model.name_or_path": "models/a-name-that-is-long@3", "training.lr_scheduler_type": "cosine"}
        api.on("GET", GET, ok(search()))
        api.on(
            "GET", TRIALS, ok({"data": [BEST | {"parameters": long | BEST["parameters"]}], "has_more": False})
        )
        monkeypatch.setattr("steelyard.cli.output._PIPE_WIDTH", 80)

        lines = steelyard("trials", "job_1").out.splitlines()

        assert all(len(line) <= 80 for line in lines)
        assert len(lines) == 3
        assert lines[2].split()[:5] == ["0001", "*", "succeeded", "2.5", "10"]
        assert "job_t1" not in lines[2]

    def test_json_is_the_page(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(search()))
        api.on("GET", TRIALS, ok(PAGE))

        result = steelyard(
            "trials", "job_1", "--json", "--sort", "value", "--curves", "--limit", "3", "--after", "7"
        )

        assert ([each["number"] for each in result.json["data"]], result.json["next"]) == ([0, 1, 2], "2")
        assert api.seen[-1].query == {"limit": "3", "sort": "value", "curves": "true", "after": "7"}

    def test_all_pages(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(search()))
        last = {"data": [trial(3)], "has_more": False, "next": None}
        api.on("GET", TRIALS, ok(PAGE), ok(last))

        result = steelyard("trials", "job_1", "--all", "--json")

        assert [each["number"] for each in result.json["data"]] == [0, 1, 2, 3]
        assert [seen.query.get("after") for seen in api.calls("GET", TRIALS)] == [None, "2"]

    def test_curves_are_drawn_between_their_own_ends(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        points = [{"step": 1, "value": 8.0}, {"step": 2, "value": None}, {"step": 3, "value": 1.0}]
        flat = [{"step": step, "value": 2.0} for step in range(1, 41)]
        found = [trial(0, curve=points), trial(1, curve=flat), trial(2, curve=[])]
        api.on("GET", GET, ok(search()))
        api.on("GET", TRIALS, ok({"data": found, "has_more": False}))

        rows = steelyard("trials", "job_1", "--curves").out.splitlines()[2:]

        assert "█?▁" in rows[0]
        assert rows[1].count("▁") == 14
        assert "▁" not in rows[2]

    def test_none_yet(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(search("queued")))
        api.on("GET", TRIALS, ok({"data": [], "has_more": False}))

        assert "steelyard explain" in steelyard("trials", "job_1").out

    def test_what_is_no_search_is_refused(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(job()))
        api.on("GET", TRIALS, failure(422, "invalid_request", "job_1 is of type fine_tune"))

        result = steelyard("trials", "job_1", "--json")

        assert result.code != 0
        assert result.error["message"] == "job_1 is of type fine_tune"

    def test_values_that_people_wrote_cannot_move_the_cursor(
        self, api: ScriptedApi, steelyard: Steelyard
    ) -> None:
        evil = trial(0, parameters={"model.chat_template": "\x1b[2Jtemplate"})
        api.on("GET", GET, ok(search()))
        api.on("GET", TRIALS, ok({"data": [evil], "has_more": False}))

        assert "\x1b" not in steelyard("trials", "job_1").out
        api.on("GET", GET, ok(search("succeeded")))
        assert "\x1b" not in steelyard("trials", "job_1", "-f").out


class TestFollow:
    @pytest.mark.parametrize("outage", [False, True])
    def test_each_change_is_a_line_until_the_search_has_ended(
        self, api: ScriptedApi, steelyard: Steelyard, outage: bool
    ) -> None:
        first = {"data": [trial(0)], "has_more": False}
        last = {"data": [trial(0), BEST], "has_more": False}
        api.on("GET", GET, ok(search()), ok(search()), *([drop] if outage else []), ok(search("succeeded")))
        api.on("GET", TRIALS, ok(first), ok(last))

        result = steelyard("trials", "job_1", "-f", "--json")

        assert result.code == 0
        lines = [json.loads(line) for line in result.out.splitlines()]
        assert [(line["number"], line["state"]) for line in lines] == [(0, "running"), (1, "succeeded")]

    def test_lines_for_people(self, api: ScriptedApi, steelyard: Steelyard) -> None:
        api.on("GET", GET, ok(search("succeeded")))
        api.on("GET", TRIALS, ok({"data": [BEST], "has_more": False}))

        (line,) = steelyard("trials", "job_1", "-f").out.splitlines()

        assert line.partition("  ")[2] == (
            "0001 *  succeeded  step 10  2.5  peft.r=8 training.learning_rate=0.001"
        )


def test_get_of_a_search_names_the_best_so_far(api: ScriptedApi, steelyard: Steelyard) -> None:
    api.on("GET", GET, ok(search(best=BEST)))

    out = steelyard("get", "job_1").out

    assert "trial 1: heldout/loss 2.5 with peft.r=8, training.learning_rate=0.001" in out
