"""What every trainer keeps: exit codes, resuming to the same bits, checkpoints that are whole, DDP."""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.attempt_api import STALE, serve_attempt_api
from tests.run_factory import (
    CHATS,
    PAIRS,
    TEXTS,
    TRAINING,
    fine_tune_spec,
    make_run,
    read_outcome,
    start_trainer,
    trainer_environment,
)

from steelyard.kit.canonical import digest_file
from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.manifests import verify_manifest
from steelyard.runtime.tracking import read_metrics
from steelyard.specs.outcome import ExitCode, OutcomeKind
from steelyard.specs.states import Reason
from steelyard.trainers import evaluate, sft

pytestmark = pytest.mark.training

_DEADLINE_SECONDS = 90
_FULL = fine_tune_spec(
    training=TRAINING | {"max_steps": 40, "warmup_steps": 5}, checkpoint={"save_steps": 10}
)
_LORA = _FULL | {"peft": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}}


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a trainer does to its process, where that process is ours."""
    monkeypatch.setenv("STEELYARD_RUN", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _wait_for_step(run_path: Path, step: int) -> None:
    metrics = run_path.with_name("metrics.jsonl")
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if len(lines) >= step:
            return
        time.sleep(0.005)  # poll of a file that another process writes
    raise AssertionError(run_path.with_name("log").read_text())


def _finish(run_path: Path) -> Path:
    """Run a trainer in this process; return the folder of its model."""
    assert sft.main(run_path) == ExitCode.DONE
    outcome = read_outcome(run_path)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.model_dir is not None
    folder = run_path.parents[2] / outcome.model_dir
    assert verify_manifest(folder) is None
    return folder


def _figures(run_path: Path) -> list[dict[str, Any]]:
    return read_metrics(run_path.with_name("metrics.jsonl"), 0)[0]


def _weights(folder: Path) -> str:
    (file,) = folder.glob("*model.safetensors")
    return digest_file(file)


@pytest.fixture(scope="module", params=["full", "lora"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    spec = _FULL if request.param == "full" else _LORA
    folder = tmp_path_factory.mktemp("undisturbed")
    return spec, _weights(_finish(make_run(folder / "job", spec=spec)))


class TestResume:
    def test_sigterm_saves_at_a_step_end_and_the_rest_gives_the_same_bits(
        self, tmp_path: Path, undisturbed: tuple[Any, str]
    ) -> None:
        spec, expected = undisturbed
        first = make_run(tmp_path / "job", spec=spec)
        process = start_trainer(first)
        _wait_for_step(first, 13)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_DEADLINE_SECONDS) == ExitCode.CHECKPOINTED
        outcome = read_outcome(first)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.CHECKPOINTED, Reason.PREEMPTED)
        newest = list_checkpoints(tmp_path / "job")[0]
        assert newest.step == outcome.step
        assert verify_manifest(newest.path) is None
        second = make_run(tmp_path / "job", spec=spec, epoch=2, resume_from=str(newest.path))
        assert _weights(_finish(second)) == expected
        assert (
            json.loads(second.with_name("metrics.jsonl").read_text().splitlines()[0])["step"]
            == newest.step + 1
        )

    def test_sigkill_repeats_at_most_an_interval_and_gives_the_same_bits(
        self, tmp_path: Path, undisturbed: tuple[Any, str]
    ) -> None:
        spec, expected = undisturbed
        first = make_run(tmp_path / "job", spec=spec)
        process = start_trainer(first)
        _wait_for_step(first, 17)
        process.kill()
        assert process.wait(_DEADLINE_SECONDS) == -signal.SIGKILL
        reached = len(_figures(first))
        newest = list_checkpoints(tmp_path / "job")[0]
        assert reached - newest.step <= 10
        second = make_run(tmp_path / "job", spec=spec, epoch=2, resume_from=str(newest.path))
        assert _weights(_finish(second)) == expected

    def test_a_checkpoint_of_the_last_step_trains_no_further(self, tmp_path: Path) -> None:
        first = make_run(tmp_path / "job")
        expected = _weights(_finish(first))
        last = list_checkpoints(tmp_path / "job")[0]
        assert last.step == 6
        second = make_run(tmp_path / "job", epoch=2, resume_from=str(last.path))
        assert _weights(_finish(second)) == expected
        assert not second.with_name("metrics.jsonl").exists()

    def test_a_damaged_checkpoint_is_refused_by_name(self, tmp_path: Path) -> None:
        _finish(make_run(tmp_path / "job"))
        newest = list_checkpoints(tmp_path / "job")[0].path
        data = bytearray((newest / "optimizer.pt").read_bytes())
        data[len(data) // 2] ^= 1
        (newest / "optimizer.pt").write_bytes(data)
        second = make_run(tmp_path / "job", epoch=2, resume_from=str(newest))
        assert sft.main(second) == ExitCode.TRANSIENT
        outcome = read_outcome(second)
        assert outcome.reason is Reason.TRANSIENT_FAILURE
        assert "optimizer.pt" in outcome.message


class TestPlatform:
    def test_it_hears_of_every_checkpoint_and_of_the_end(self, tmp_path: Path) -> None:
        with serve_attempt_api() as api:
            _finish(make_run(tmp_path / "job", api_url=api.url))
        assert [body["step"] for body in api.bodies("checkpoints")] == [2, 4, 6]
        assert api.bodies("result")[0]["outcome"]["kind"] == "succeeded"
        assert api.bodies("report")[-1]["total_steps"] == 6

    def test_an_api_that_never_answers_does_not_stop_training(
        self, tmp_path: Path, undisturbed: tuple[Any, str]
    ) -> None:
        spec, expected = undisturbed
        with serve_attempt_api() as api:
            url = api.url
        assert _weights(_finish(make_run(tmp_path / "job", spec=spec, api_url=url))) == expected
        assert [each.step for each in list_checkpoints(tmp_path / "job")] == [40, 30, 20, 10]

    def test_a_run_out_lease_saves_and_leaves(self, tmp_path: Path) -> None:
        with serve_attempt_api() as api:
            url = api.url
        run_path = make_run(tmp_path / "job", spec=_FULL, api_url=url, lease_seconds=0.0)
        assert sft.main(run_path) == ExitCode.CHECKPOINTED
        assert read_outcome(run_path).reason is Reason.LEASE_LOST

    def test_a_replaced_attempt_publishes_nothing_and_leaves(self, tmp_path: Path) -> None:
        spec = _FULL | {"training": TRAINING | {"max_steps": 100_000}}
        with serve_attempt_api() as api:
            api.answers["checkpoints"] = STALE
            run_path = make_run(tmp_path / "job", spec=spec, api_url=api.url)
            assert sft.main(run_path) == ExitCode.TRANSIENT
        assert read_outcome(run_path).reason is Reason.LEASE_LOST
        assert len(api.bodies("checkpoints")) == 1
        assert api.bodies("result") == []
        assert not (tmp_path / "job" / "models").exists()


class TestFormats:
    @pytest.mark.parametrize(
        ("shape", "rows", "training"),
        [
            ("messages", CHATS, {}),
            ("messages", CHATS, {"assistant_only_loss": True}),
            ("text", TEXTS, {}),
            ("text", TEXTS, {"packing": True}),
            ("prompt_completion", PAIRS, {"gradient_accumulation_steps": 2}),
            ("prompt_completion", PAIRS, {"gradient_checkpointing": True}),
        ],
    )
    def test_trains(self, tmp_path: Path, shape: str, rows: list[Any], training: dict[str, Any]) -> None:
        spec = fine_tune_spec(training=TRAINING | training)
        run_path = make_run(tmp_path / "job", spec=spec, shape=shape, rows=rows)
        _finish(run_path)
        losses = [line["values"]["loss"] for line in _figures(run_path)]
        assert losses[-1] < losses[0]

    def test_files_can_be_read_by_others_and_an_adapter_names_its_base(self, tmp_path: Path) -> None:
        run_path = make_run(tmp_path / "job", spec=fine_tune_spec(peft={"r": 4}))
        folder = _finish(run_path)
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
        assert folder.stat().st_mode & 0o777 == 0o755
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "builtin/tiny-random"
        modules = config["target_modules"]
        assert len(modules) > 3
        assert modules == sorted(modules), "as a set, it falls anew each time"
        written = "".join(path.read_text(errors="replace") for path in folder.iterdir())
        base = json.loads(run_path.read_text())["model_path"]
        assert base not in written, "a model names no folder of the node that made it"


class TestRefusals:
    def _refused(self, run_path: Path, code: int) -> Any:
        assert sft.main(run_path) == code
        outcome = read_outcome(run_path)
        assert outcome.kind is OutcomeKind.FAILED
        assert outcome.exit_code == code
        return outcome

    def test_an_overlong_row_is_named_with_its_length(self, tmp_path: Path) -> None:
        rows = [*PAIRS[:3], {"prompt": "long ", "completion": "word " * 200}]
        outcome = self._refused(make_run(tmp_path / "job", rows=rows), ExitCode.BAD_CONFIG)
        assert outcome.reason is Reason.SEQUENCE_TOO_LONG
        assert outcome.message.startswith("Row 4 of the train split has ")
        assert "training.overlong" in outcome.message

    def test_a_loss_that_is_not_a_number_stops_and_saves_nothing(self, tmp_path: Path) -> None:
        spec = fine_tune_spec(
            training=TRAINING | {"learning_rate": 10.0, "max_steps": 50, "max_grad_norm": 1e30}
        )
        run_path = make_run(tmp_path / "job", spec=spec)
        model = tmp_path / "cache" / "builtin"
        (weights,) = model.glob("*/model.safetensors")
        _poison(weights)
        outcome = self._refused(run_path, 1)
        assert outcome.reason is Reason.NAN_LOSS
        assert list_checkpoints(tmp_path / "job") == []

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"model_path": "/nowhere"}, Reason.MODEL_NOT_FOUND),
            ({"model_path": None}, Reason.BAD_CONFIG),
            (
                {"dataset": {"digest": "d", "format": "text", "train": ["/nowhere.jsonl"], "validation": []}},
                Reason.DATASET_NOT_FOUND,
            ),
            (
                {"dataset": {"digest": "d", "format": "text", "train": [], "validation": []}},
                Reason.DATASET_EMPTY,
            ),
        ],
    )
    def test_bad_orders(self, tmp_path: Path, fields: dict[str, Any], reason: Reason) -> None:
        outcome = self._refused(make_run(tmp_path / "job", **fields), ExitCode.BAD_CONFIG)
        assert outcome.reason is reason

    def test_conversations_need_a_chat_template(self, tmp_path: Path) -> None:
        run_path = make_run(tmp_path / "job", shape="messages", rows=CHATS)
        (template,) = (tmp_path / "cache" / "builtin").glob("*/chat_template.jinja")
        template.unlink()
        assert self._refused(run_path, ExitCode.BAD_CONFIG).reason is Reason.NO_CHAT_TEMPLATE

    def test_fsdp_on_cpu_is_refused_rather_than_silently_something_else(self, tmp_path: Path) -> None:
        spec = fine_tune_spec(distributed={"strategy": "fsdp", "processes_per_node": 2})
        outcome = self._refused(make_run(tmp_path / "job", spec=spec), ExitCode.BAD_CONFIG)
        assert "strategy ddp" in outcome.message

    def test_a_file_that_is_no_run_is_a_bad_config(self, tmp_path: Path) -> None:
        run_path = make_run(tmp_path / "job")
        run_path.write_text('{"stage": "train"}')
        assert self._refused(run_path, ExitCode.BAD_CONFIG).reason is Reason.BAD_CONFIG


def _poison(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    # The last four bytes belong to some weight: make it a NaN.
    data[-4:] = b"\x00\x00\xc0\x7f"
    weights.write_bytes(data)


class TestEvaluation:
    @pytest.mark.parametrize("peft", [None, {"r": 4}])
    def test_the_tuned_model_is_set_beside_the_base(self, tmp_path: Path, peft: Any) -> None:
        evaluation = {"suites": ["heldout", "choices"], "max_samples": 8}
        spec = fine_tune_spec(evaluation=evaluation, peft=peft, training=TRAINING | {"max_steps": 30})
        tuned = _finish(make_run(tmp_path / "job", spec=spec))
        second = make_run(tmp_path / "job", spec=spec, epoch=2, stage="evaluate", tuned_model_dir=str(tuned))
        assert evaluate.main(second) == ExitCode.DONE
        metrics = read_outcome(second).metrics
        assert metrics["tuned/heldout/loss"] < metrics["base/heldout/loss"]
        assert metrics["base/heldout/n"] == metrics["tuned/choices/n"] == 8
        assert metrics["base/heldout/loss"] == pytest.approx(math.log(512), abs=0.1)
        assert 0.0 <= metrics["tuned/choices/accuracy"] <= 1.0
        assert metrics["base/heldout/loss/stderr"] > 0.0

    def test_choices_need_four_different_completions(self, tmp_path: Path) -> None:
        spec = fine_tune_spec(evaluation={"suites": ["choices"]})
        run_path = make_run(tmp_path / "job", spec=spec, stage="evaluate", validation=PAIRS[:3])
        assert evaluate.main(run_path) == ExitCode.BAD_CONFIG
        assert read_outcome(run_path).reason is Reason.DATASET_EMPTY


class TestDdp:
    def test_two_ranks_train_and_one_signalled_rank_stops_both(self, tmp_path: Path) -> None:
        spec = _FULL | {"distributed": {"strategy": "ddp", "processes_per_node": 2}}
        spec |= {"training": TRAINING | {"max_steps": 2000}}
        run_path = make_run(tmp_path / "job", spec=spec)
        with _torchrun(run_path) as agent:
            _wait_for_step(run_path, 4)
            _worker_of(agent.pid, rank=1).send_signal(signal.SIGTERM)
            agent.wait(_DEADLINE_SECONDS)
        outcome = read_outcome(run_path)
        assert outcome.exit_code == ExitCode.CHECKPOINTED
        newest = list_checkpoints(tmp_path / "job")[0]
        assert verify_manifest(newest.path) is None
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.path.iterdir()}
        spec = spec | {"training": TRAINING | {"max_steps": newest.step + 3}}
        second = make_run(tmp_path / "job", spec=spec, epoch=2, resume_from=str(newest.path))
        with _torchrun(second) as agent:
            assert agent.wait(_DEADLINE_SECONDS) == 0
        assert read_outcome(second).step == newest.step + 3


def _torchrun(run_path: Path) -> subprocess.Popen[bytes]:
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with run_path.with_name("log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *module, "-m", "steelyard.trainers.sft", str(run_path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=trainer_environment(),
        )


def _worker_of(agent: int, rank: int) -> Any:
    for child in psutil.Process(agent).children():
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no rank {rank} below {agent}")
