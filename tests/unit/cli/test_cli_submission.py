"""`submit` and `plan`: what is sent, and what is refused before anything is."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.scripted_api import JOBS, ScriptedApi, drop, failure, job, ok
from tests.unit.cli.conftest import SPEC, Steelyard

PLAN: dict[str, Any] = {
    "valid": True,
    "spec": {},
    "lineage": {},
    "fits": True,
    "would_start_now": False,
    "queue_position": 3,
    "max_gpu_hours": 0.5,
    "messages": ["two jobs are before it"],
}


class TestSubmit:
    def test_sends_the_file_and_says_how_to_watch(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path
    ) -> None:
        api.on("POST", JOBS, ok(job("validating"), 202))

        result = steelyard("submit", str(spec_file))

        assert result.code == 0
        assert "job_1" in result.out
        assert "steelyard wait job_1" in result.out
        assert api.seen[0].json["training"] == {"max_steps": 60, "learning_rate": 2e-4}

    def test_json_is_one_document(self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path) -> None:
        api.on("POST", JOBS, ok(job("validating"), 202))

        result = steelyard("submit", str(spec_file), "--json")

        assert (result.code, result.err) == (0, "")
        assert result.json["id"] == "job_1"

    def test_overrides_key_and_project(self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path) -> None:
        api.on("POST", "/v1/projects/lab/jobs", ok(job(), 202))

        result = steelyard(
            "submit", str(spec_file), "--project", "lab", "--idempotency-key", "k1",
            "--set", "training.max_steps=5", "--set", "peft.r=16", "--set", "tags.team=no",
        )  # fmt: skip

        assert result.code == 0
        (seen,) = api.seen
        assert seen.headers["idempotency-key"] == "k1"
        assert seen.json["training"]["max_steps"] == 5
        assert (seen.json["peft"], seen.json["tags"]) == ({"r": 16}, {"team": "no"})

    def test_standard_input(
        self,
        api: ScriptedApi,
        steelyard: Steelyard,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        api.on("POST", JOBS, ok(job(), 202))
        monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))

        assert steelyard("submit", "-").code == 0
        assert api.seen[0].json["name"] == "support-tone"

    def test_a_script_comes_along(self, api: ScriptedApi, steelyard: Steelyard, tmp_path: Path) -> None:
        api.on("POST", JOBS, ok(job(), 202))
        (tmp_path / "t.py").write_text("print(1)\n")
        (tmp_path / "other.py").write_text("print(2)\n")
        (tmp_path / "job.yaml").write_text(
            "api_version: steelyard/v1\ntype: fine_tune\nname: a\nmethod: script\nscript: {path: t.py}\n"
        )

        assert steelyard("submit", str(tmp_path / "job.yaml")).code == 0
        assert steelyard("submit", str(tmp_path / "job.yaml"), "--set", "script.path=other.py").code == 0

        scripts = [seen.json["script"] for seen in api.seen]
        assert scripts == [
            {"filename": "t.py", "source": "print(1)\n"},
            {"filename": "other.py", "source": "print(2)\n"},
        ]

    @pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 6)])
    def test_waiting_ends_with_the_jobs_end(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path, state: str, code: int
    ) -> None:
        api.on("POST", JOBS, ok(job("queued"), 202))
        api.on("GET", f"{JOBS}/job_1", ok(job(step=3)), ok(job(state, step=60)))

        result = steelyard("submit", str(spec_file), "--wait", "--json")

        assert result.code == code
        assert result.json["state"] == state

    def test_a_lost_submission_says_how_to_be_sure(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path
    ) -> None:
        api.on("POST", JOBS, drop)

        result = steelyard("submit", str(spec_file))

        assert result.code == 3
        assert f"--idempotency-key {api.seen[0].headers['idempotency-key']}" in result.err


class TestRefusals:
    def refuse(self, steelyard: Steelyard, path: Path, *more: str) -> Any:
        result = steelyard("submit", str(path), "--json", *more)
        assert (result.code, result.out) == (2, "")
        return result.error

    @pytest.mark.parametrize(
        ("text", "place", "param"),
        [
            (SPEC.replace("max_s", "max_"), "job.yaml:7: training.max_teps: is no", "training.max_teps"),
            (SPEC.replace("60", "sixty"), "job.yaml:7: training.max_steps:", "training.max_steps"),
            (SPEC.replace("name: support-tone\n", ""), "job.yaml:1: name: is missing", "name"),
            (SPEC.replace("type: fine_tune\n", ""), "job.yaml:1: type: is missing; one of fine_tune", "type"),
            (SPEC.replace("fine_tune", "finetune"), "job.yaml:2: type: 'finetune' is none of", "type"),
            (SPEC + "  num_train_epochs: 1\n", "job.yaml:6: training: give max_steps or", "training"),
            (SPEC.replace("model: {name", "tags: {name"), "model: method sft needs a model block", "model"),
            (SPEC + "  max_steps: 5\n", "job.yaml:9: training.max_steps is given", "training.max_steps"),
            (SPEC + "peft: {target_modules: 3}\n", "job.yaml:9: peft.target_modules:", "peft.target_modules"),
            (SPEC.replace("60", ".inf"), "job.yaml: .inf and .nan", None),
        ],
    )  # fmt: skip
    def test_a_fault_in_the_file_names_its_place(
        self,
        api: ScriptedApi,
        steelyard: Steelyard,
        spec_file: Path,
        text: str,
        place: str,
        param: str | None,
    ) -> None:
        spec_file.write_text(text)

        error = self.refuse(steelyard, spec_file)

        assert place in error["message"]
        assert error["param"] == param
        assert error["code"] == "invalid_spec"
        assert api.seen == []

    def test_a_misspelt_field_is_guessed_among_its_siblings(
        self, steelyard: Steelyard, spec_file: Path
    ) -> None:
        spec_file.write_text(SPEC.replace("max_steps", "max_stepz"))
        assert "did you mean max_steps?" in self.refuse(steelyard, spec_file)["message"]

    def test_many_faults_are_listed(self, steelyard: Steelyard, spec_file: Path) -> None:
        spec_file.write_text(SPEC + "  seed: x\npriority: high\n")

        error = self.refuse(steelyard, spec_file)

        assert [fault["param"] for fault in error["details"]["faults"]] == ["priority", "training.seed"]
        assert error["message"].count("\n") == 1

    @pytest.mark.parametrize(
        ("assignment", "words"),
        [
            ("training.max_steps=ten", "--set training.max_steps=ten: training.max_steps:"),
            ("training.max_stepz=1", "--set training.max_stepz=1: training.max_stepz: is no field"),
            ("training.max_steps.x=1", "training.max_steps is 60 and has no field 'x'"),
            ("training", "give a path and a value"),
            ("=1", "can't be read|has no field"),
            ("a..b=1", "can't be read"),
            ("a.=1", "has no field at its end"),
            ("name=[1", "can't be read"),
            ("evaluation.suites.1=x", "is a list of 0"),
        ],
    )
    def test_a_fault_in_an_override_names_it(
        self, steelyard: Steelyard, spec_file: Path, assignment: str, words: str
    ) -> None:
        error = self.refuse(steelyard, spec_file, "--set", assignment)
        assert any(part in error["message"] for part in words.split("|"))

    def test_the_platforms_complaint_gets_its_place(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path
    ) -> None:
        complaint = failure(422, "invalid_spec", "no dataset chats@v1", "dataset.ref", {"x": 1})
        api.on("POST", JOBS, complaint)

        error = self.refuse(steelyard, spec_file)

        assert error["message"].endswith("job.yaml:5: no dataset chats@v1")
        assert (error["param"], error["details"]) == ("dataset.ref", {"x": 1})

    def test_a_reused_key_names_the_first_job(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path
    ) -> None:
        api.on(
            "POST", JOBS, failure(422, "idempotency_key_reused", "made job_0", details={"job_id": "job_0"})
        )

        error = self.refuse(steelyard, spec_file)

        assert (error["code"], error["details"]["job_id"]) == ("idempotency_key_reused", "job_0")
        assert error["request_id"] == "req_1"

    def test_a_type_that_can_not_run_yet(
        self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path
    ) -> None:
        api.on("POST", JOBS, failure(501, "not_supported", "not yet"))
        assert self.refuse(steelyard, spec_file)["code"] == "not_supported"

    def test_a_file_that_is_not_there(self, steelyard: Steelyard, tmp_path: Path) -> None:
        assert "No such file" in self.refuse(steelyard, tmp_path / "none.yaml")["message"]


class TestPlan:
    def test_says_what_would_be(self, api: ScriptedApi, steelyard: Steelyard, spec_file: Path) -> None:
        api.on("POST", f"{JOBS}/plan", ok(PLAN))

        human = steelyard("plan", str(spec_file), "--set", "priority=9")
        machine = steelyard("plan", str(spec_file), "--json")

        assert human.code == machine.code == 0
        assert "place 3" in human.out
        assert "two jobs are before it" in human.out
        assert machine.json["queue_position"] == 3
        assert api.seen[0].json["priority"] == 9


def test_the_schema_needs_no_platform(steelyard: Steelyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_API_URL", "http://127.0.0.1:9")

    assert steelyard("schema", "hpo").json["title"] == "HpoSpec"
    assert set(steelyard("schema").json["discriminator"]["mapping"]) >= {"fine_tune", "rlhf"}
    unknown = steelyard("schema", "finetune", "--json")
    assert unknown.code == 4
    assert "fine_tune" in json.loads(unknown.err)["error"]["message"]
