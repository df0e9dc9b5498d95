"""Looks at the validation split while training: they change no bit of it, and none is lost with a process."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.run_factory import (
    TRAINING,
    fine_tune_spec,
    make_run,
    read_outcome,
    start_trainer,
    trainer_environment,
)

from steelyard.kit.canonical import digest_file
from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.tracking import read_metrics
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason
from steelyard.trainers import sft

pytestmark = pytest.mark.training

_DEADLINE_SECONDS = 90
_BLIND = fine_tune_spec(
    peft={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1},
    training=TRAINING | {"max_steps": 20, "warmup_steps": 5},
    checkpoint={"save_steps": 5},
)
_LOOKING = _BLIND | {"training": _BLIND["training"] | {"eval_steps": 3}}


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a trainer does to its process, where that process is ours."""
    monkeypatch.setenv("STEELYARD_RUN", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _weights(run_path: Path) -> str:
    assert sft.main(run_path) == ExitCode.DONE
    folder = run_path.parents[2] / str(read_outcome(run_path).model_dir)
    (file,) = folder.glob("*model.safetensors")
    return digest_file(file)


def _curve(*run_paths: Path) -> dict[int, float]:
    lines = [line for path in run_paths for line in read_metrics(path.with_name("metrics.jsonl"), 0)[0]]
    return {line["step"]: line["values"]["eval/loss"] for line in lines if "eval/loss" in line["values"]}


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = make_run(tmp_path_factory.mktemp("looking") / "job", spec=_LOOKING)
    return _weights(path), path


def test_looks_come_every_so_many_steps_and_at_the_end(looking: tuple[str, Path]) -> None:
    curve = _curve(looking[1])

    assert list(curve) == [3, 6, 9, 12, 15, 18, 20]
    assert read_outcome(looking[1]).metrics["eval/loss"] == curve[20]
    assert curve[20] < curve[3]


def test_looks_change_no_bit_of_the_training(looking: tuple[str, Path], tmp_path: Path) -> None:
    assert _weights(make_run(tmp_path / "job", spec=_BLIND)) == looking[0]


def test_a_stop_and_a_resume_give_the_same_bits_and_the_same_curve(
    looking: tuple[str, Path], tmp_path: Path
) -> None:
    first = make_run(tmp_path / "job", spec=_LOOKING)
    process = start_trainer(first)
    _wait_for_look(first)
    process.send_signal(signal.SIGTERM)
    assert process.wait(_DEADLINE_SECONDS) == ExitCode.CHECKPOINTED
    newest = list_checkpoints(tmp_path / "job")[0]

    second = make_run(tmp_path / "job", spec=_LOOKING, epoch=2, resume_from=str(newest.path))

    assert _weights(second) == looking[0]
    assert _curve(first, second) == _curve(looking[1])


def test_two_ranks_look_together_and_one_of_them_tells(tmp_path: Path) -> None:
    spec = _LOOKING | {
        "training": _LOOKING["training"] | {"max_steps": 6},
        "distributed": {"strategy": "ddp", "processes_per_node": 2},
    }
    path = make_run(tmp_path / "job", spec=spec)
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *module, "-m", "steelyard.trainers.sft", str(path)]

    ran = subprocess.run(
        command, env=trainer_environment(), capture_output=True, timeout=2 * _DEADLINE_SECONDS, check=False
    )

    assert ran.returncode == 0, ran.stdout.decode() + ran.stderr.decode()
    curve = _curve(path)
    assert list(curve) == [3, 6]
    assert read_outcome(path).metrics["eval/loss"] == curve[6]
    assert ran.stdout.count(b"eval/loss") == 2


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    path = make_run(tmp_path / "job", spec=_LOOKING)
    (tmp_path / "data" / "validation.jsonl").write_text("")

    assert sft.main(path) == ExitCode.BAD_CONFIG

    outcome = read_outcome(path)
    assert outcome.reason is Reason.DATASET_EMPTY
    assert "validation" in outcome.message


def _wait_for_look(run_path: Path) -> None:
    metrics = run_path.with_name("metrics.jsonl")
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if metrics.exists() and '"eval/loss"' in metrics.read_text():
            return
        time.sleep(0.005)  # poll of a file that another process writes
    raise AssertionError(run_path.with_name("log").read_text())
