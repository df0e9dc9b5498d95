"""Suites of tasks: the engine's own figures, shard by shard, whatever is killed in between."""

import importlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chat_api import serve_chats
from tests.run_factory import make_run, read_outcome, start_trainer

from steelyard.runtime.manifests import read_manifest
from steelyard.specs.cells import Contestant, endpoint_digest, plan_cells
from steelyard.specs.evaluations import RESULTS_FOLDER, SAMPLES_NAME, CellResult, SuiteFolder
from steelyard.specs.job import EvalOnlySpec
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason
from steelyard.trainers import evaluate
from steelyard.trainers.builtin import ensure_builtin
from steelyard.trainers.evaluate_results import read_result
from steelyard.trainers.evaluate_shards import SHARD_SAMPLES

pytestmark = pytest.mark.training

_EXAMPLE = Path(__file__).parents[2] / "examples/suites/stdlib-questions"
_SUITE = SuiteFolder(
    name="stdlib",
    digest="sha256:" + "1" * 64,
    path=str(_EXAMPLE),
    tasks=["stdlib_modules", "stdlib_purposes"],
)
_DEADLINE_SECONDS = 90
_parquet: Any = importlib.import_module("pyarrow.parquet")


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a trainer does to its process, where that process is ours."""
    monkeypatch.setenv("STEELYARD_RUN", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "weigh",
        "model": {"name_or_path": "builtin/tiny-random"},
        "evaluation": {"suites": ["stdlib"]},
    }
    return {key: value for key, value in (spec | changes).items() if value is not None}


def _evaluation_run(job_dir: Path, spec: dict[str, Any], suites: list[SuiteFolder], **fields: Any) -> Path:
    parsed = EvalOnlySpec.model_validate_json(json.dumps(spec))
    if parsed.endpoint is not None:
        digest = endpoint_digest(parsed.endpoint)
    else:
        folder = ensure_builtin("builtin/tiny-random", job_dir.parent / "cache").path
        digest = read_manifest(folder).digest()
    data = {"digest": "d", "format": "prompt_completion"}
    cells = plan_cells(parsed, [Contestant("base", digest)], suites, data)
    orders = {
        "cells": [cell.model_dump(mode="json") for cell in cells],
        "suites": [suite.model_dump(mode="json") for suite in suites],
    }
    return make_run(job_dir, spec=spec, stage="evaluate", evaluation=orders, **fields)


def _results(job_dir: Path) -> list[CellResult]:
    found = [read_result(folder) for folder in sorted((job_dir / RESULTS_FOLDER).iterdir())]
    return [result for result in found if result is not None]


class TestTasks:
    def test_the_figures_are_those_of_the_engines_own_loop(self, tmp_path: Path) -> None:
        run_path = _evaluation_run(tmp_path / "job", _spec(), [_SUITE])
        assert evaluate.main(run_path) == ExitCode.DONE, read_outcome(run_path).message
        (result,) = _results(tmp_path / "job")
        ours = {figure.name: figure for figure in result.figures}
        theirs = _by_hand(tmp_path)
        for task, metric in (
            ("stdlib_purposes", "acc"),
            ("stdlib_purposes", "acc_norm"),
            ("stdlib_modules", "exact_match"),
        ):
            mine = ours[f"{task}.{metric}"]
            assert mine.value == pytest.approx(theirs[task][f"{metric},none"], abs=1e-12)
            assert mine.standard_error == pytest.approx(theirs[task][f"{metric}_stderr,none"], abs=1e-12)
            assert mine.n == theirs[task]["sample_len"]
        assert (
            read_outcome(run_path).metrics["base/stdlib/stdlib_purposes.acc"]
            == ours["stdlib_purposes.acc"].value
        )

    def test_every_sample_is_kept_once(self, tmp_path: Path) -> None:
        run_path = _evaluation_run(tmp_path / "job", _spec(), [_SUITE])
        assert evaluate.main(run_path) == ExitCode.DONE
        (result,) = _results(tmp_path / "job")
        samples = tmp_path / "job" / RESULTS_FOLDER / result.cell.key / SAMPLES_NAME
        columns: dict[str, list[Any]] = _parquet.read_table(samples).to_pydict()
        assert len(columns["sample_id"]) == len(set(columns["sample_id"])) == result.n == 64 + 32
        values = [each for each in columns["value.acc"] if each is not None]
        (accuracy,) = (each for each in result.figures if each.name == "stdlib_purposes.acc")
        assert sum(values) / len(values) == pytest.approx(accuracy.value)

    def test_a_template_can_not_reach_python(self, tmp_path: Path) -> None:
        folder = tmp_path / "suite"
        folder.mkdir()
        task = (_EXAMPLE / "modules.yaml").read_text()
        attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        (folder / "modules.yaml").write_text(
            task.replace("In Python's `{{name}}`, the module's name is `", attack)
        )
        (folder / "modules.jsonl").write_text((_EXAMPLE / "modules.jsonl").read_text())
        suite = _SUITE.model_copy(update={"path": str(folder), "tasks": ["stdlib_modules"]})
        run_path = _evaluation_run(tmp_path / "job", _spec(), [suite])
        assert evaluate.main(run_path) != ExitCode.DONE
        assert "unsafe" in read_outcome(run_path).message


class TestKilled:
    def test_it_goes_on_with_the_finished_shards_to_the_same_digests(self, tmp_path: Path) -> None:
        evaluation = {"suites": ["heldout", "choices", "stdlib"]}
        spec = _spec(evaluation=evaluation, dataset={"ref": "pairs@v1"})
        rows = [
            {"prompt": f"What is {n} and {n}?", "completion": f" It is {2 * n}, the double."}
            for n in range(4 * SHARD_SAMPLES)
        ]
        whole = _evaluation_run(tmp_path / "whole", spec, [_SUITE], validation=rows)
        assert evaluate.main(whole) == ExitCode.DONE
        for epoch in (1, 2, 3):
            run_path = _evaluation_run(tmp_path / "job", spec, [_SUITE], validation=rows, epoch=epoch)
            before = _shards(tmp_path / "job")
            process = start_trainer(run_path, "steelyard.trainers.evaluate")
            if epoch < 3:
                _wait_for_shards(tmp_path / "job", len(before) + 3, process)
                process.send_signal(signal.SIGKILL)
            expected = -signal.SIGKILL if epoch < 3 else ExitCode.DONE
            assert process.wait(_DEADLINE_SECONDS) == expected, run_path.with_name("log").read_text()
            assert before.items() <= _shards(tmp_path / "job").items()
        last = tmp_path / "job" / "attempts" / "a3" / "run.json"
        ours = [
            (each.cell.suite, each.samples_digest, each.records_digest) for each in _results(tmp_path / "job")
        ]
        theirs = [
            (each.cell.suite, each.samples_digest, each.records_digest)
            for each in _results(tmp_path / "whole")
        ]
        assert ours == theirs
        assert read_outcome(last).metrics == read_outcome(whole).metrics


class TestEndpoint:
    def test_a_model_behind_an_api_is_evaluated_with_its_key_from_a_file(self, tmp_path: Path) -> None:
        suite = _SUITE.model_copy(update={"tasks": ["stdlib_modules"]})
        with serve_chats(_name_module) as (url, seen):
            run_path = _endpoint_run(tmp_path / "job", url, suite)
            assert evaluate.main(run_path) == ExitCode.DONE, read_outcome(run_path).message
        metrics = read_outcome(run_path).metrics
        assert metrics["base/stdlib/exact_match"] == 1.0
        assert metrics["base/stdlib/n"] == 32
        assert {each["authorization"] for each in seen} == {"Bearer key-of-somebody"}
        assert {each["body"]["model"] for each in seen} == {"weigher"}
        assert "key-of-somebody" not in run_path.read_text()

    def test_likelihoods_are_refused(self, tmp_path: Path) -> None:
        suite = _SUITE.model_copy(update={"tasks": ["stdlib_purposes"]})
        with serve_chats(str.upper) as (url, _):
            run_path = _endpoint_run(tmp_path / "job", url, suite)
            assert evaluate.main(run_path) == ExitCode.BAD_CONFIG
        assert "generate_until" in read_outcome(run_path).message

    def test_a_wrong_key_is_not_tried_again(self, tmp_path: Path) -> None:
        suite = _SUITE.model_copy(update={"tasks": ["stdlib_modules"]})
        with serve_chats(str.upper, status=401) as (url, seen):
            run_path = _endpoint_run(tmp_path / "job", url, suite)
            assert evaluate.main(run_path) == ExitCode.BAD_CONFIG
        assert len(seen) == 1
        assert read_outcome(run_path).reason is Reason.BAD_CONFIG


def _name_module(text: str) -> str:
    return text.split("`")[1].split(".")[0].upper() + "` is it"


def _endpoint_run(job_dir: Path, url: str, suite: SuiteFolder) -> Path:
    endpoint = {"url": url, "model": "weigher", "secret": "API_KEY"}
    spec = _spec(model=None, endpoint=endpoint, secrets=["API_KEY"])
    run_path = _evaluation_run(job_dir, spec, [suite])
    secrets = run_path.parent / "secrets"
    secrets.mkdir()
    (secrets / "API_KEY").write_text("key-of-somebody\n")
    return run_path


def _by_hand(tmp_path: Path) -> dict[str, Any]:
    """Run lm-evaluation-harness as its own users do."""
    evaluator: Any = importlib.import_module("lm_eval.evaluator")
    huggingface: Any = importlib.import_module("lm_eval.models.huggingface")
    folder = ensure_builtin("builtin/tiny-random", tmp_path / "cache").path
    model = huggingface.HFLM(str(folder), device="cpu", batch_size=16)
    configs: list[dict[str, Any]] = []
    for name in ("modules", "purposes"):
        data = {
            "data_files": {"test": str(_EXAMPLE / f"{name}.jsonl")},
            "cache_dir": str(tmp_path / "by-hand"),
        }
        configs.append({**yaml.safe_load((_EXAMPLE / f"{name}.yaml").read_text()), "dataset_kwargs": data})
    manager = importlib.import_module("lm_eval.tasks").TaskManager(include_defaults=False)
    return evaluator.simple_evaluate(model, tasks=configs, task_manager=manager)["results"]


def _shards(job_dir: Path) -> dict[str, tuple[int, int]]:
    """Finished shards with what tells whether they were written again."""
    found = sorted((job_dir / RESULTS_FOLDER).glob("*/shard-*.json"))
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def _wait_for_shards(job_dir: Path, count: int, process: Any) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if len(_shards(job_dir)) >= count or process.poll() is not None:
            return
        time.sleep(0.002)  # poll of files that another process writes
    raise AssertionError("no shard was finished in time")
