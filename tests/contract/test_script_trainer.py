"""Scripts as attempts, and the same script with no platform."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.run_factory import make_run, read_outcome, start_trainer, trainer_environment

from steelyard.kit.canonical import digest_file
from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.manifests import verify_manifest
from steelyard.specs.outcome import ExitCode, OutcomeKind
from steelyard.specs.states import Reason

pytestmark = pytest.mark.training

_EXAMPLE = Path(__file__).parents[2] / "examples" / "script" / "train.py"
_MODULE = "steelyard.trainers.script"


def _run(tmp_path: Path, source: str, args: list[str] | None = None, **fields: Any) -> Path:
    spec = {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "own",
        "method": "script",
        "script": {"filename": "train.py", "source": source, "args": args or []},
        "checkpoint": {"save_steps": 20},
    }
    return make_run(tmp_path / "job", spec=spec, **fields)


def _weights(folder: Path) -> str:
    assert verify_manifest(folder) is None
    return digest_file(folder / "model.safetensors")


def _alone(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, str(_EXAMPLE), "--steps", str(steps)]
    return subprocess.Popen(argv, cwd=folder, env=trainer_environment(), stdout=subprocess.DEVNULL)


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)  # poll of what another process writes


class TestExample:
    def test_a_killed_job_ends_with_the_weights_of_an_undisturbed_run_alone(self, tmp_path: Path) -> None:
        (tmp_path / "alone").mkdir()
        assert _alone(tmp_path / "alone", 400).wait(60) == 0
        expected = _weights(tmp_path / "alone" / "steelyard-run" / "models" / "e00001")

        first = _run(tmp_path, _EXAMPLE.read_text(), ["--steps", "400"])
        process = start_trainer(first, _MODULE)
        _wait_for(lambda: list_checkpoints(tmp_path / "job"))
        process.kill()
        process.wait(60)
        newest = list_checkpoints(tmp_path / "job")[0]
        assert newest.step < 400

        fields = {"epoch": 2, "resume_from": str(newest.path)}
        second = _run(tmp_path, _EXAMPLE.read_text(), ["--steps", "400"], **fields)
        assert start_trainer(second, _MODULE).wait(60) == ExitCode.DONE
        outcome = read_outcome(second)
        assert outcome.kind is OutcomeKind.SUCCEEDED
        assert outcome.model_dir is not None
        assert _weights(tmp_path / "job" / outcome.model_dir) == expected

    def test_alone_it_stops_on_sigterm_and_goes_on(self, tmp_path: Path) -> None:
        process = _alone(tmp_path, 100_000)
        metrics = tmp_path / "steelyard-run" / "metrics.jsonl"
        _wait_for(lambda: metrics.exists() and metrics.stat().st_size)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        (newest, *_) = list_checkpoints(tmp_path / "steelyard-run")
        assert _alone(tmp_path, newest.step + 1).wait(60) == 0
        assert (tmp_path / "steelyard-run" / "models").exists()

    def test_sigterm_as_a_job_is_checkpointed(self, tmp_path: Path) -> None:
        run_path = _run(tmp_path, _EXAMPLE.read_text(), ["--steps", "100000"])
        process = start_trainer(run_path, _MODULE)
        metrics = run_path.with_name("metrics.jsonl")
        _wait_for(lambda: metrics.exists() and metrics.stat().st_size)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == ExitCode.CHECKPOINTED
        outcome = read_outcome(run_path)
        assert outcome.step == list_checkpoints(tmp_path / "job")[0].step


class TestEndings:
    @pytest.mark.parametrize(
        ("source", "code", "kind", "reason"),
        [
            ("import sys; assert sys.argv[1:] == ['a', 'b']", 0, OutcomeKind.SUCCEEDED, Reason.COMPLETED),
            ("import sys; sys.exit(64)", 64, OutcomeKind.FAILED, Reason.BAD_CONFIG),
            ("import sys; sys.exit(75)", 75, OutcomeKind.FAILED, Reason.TRANSIENT_FAILURE),
            ("import sys; sys.exit('no luck')", 1, OutcomeKind.FAILED, Reason.TRAINER_FAILED),
            ("raise RuntimeError('boom')", 1, OutcomeKind.FAILED, Reason.TRAINER_FAILED),
            ("raise MemoryError", 64, OutcomeKind.FAILED, Reason.OUT_OF_MEMORY),
            ("import errno; raise OSError(errno.ENOSPC, 'full')", 75, OutcomeKind.FAILED, Reason.DISK_FULL),
            ("def broken(:", 1, OutcomeKind.FAILED, Reason.TRAINER_FAILED),
        ],
    )
    def test_every_end_has_its_outcome(
        self, tmp_path: Path, source: str, code: int, kind: OutcomeKind, reason: Reason
    ) -> None:
        run_path = _run(tmp_path, source, ["a", "b"])
        assert start_trainer(run_path, _MODULE).wait(60) == code
        outcome = read_outcome(run_path)
        assert (outcome.exit_code, outcome.kind, outcome.reason) == (code, kind, reason)
        assert outcome.message

    def test_a_child_whose_parent_is_gone_does_not_begin(self, tmp_path: Path) -> None:
        run_path = _run(tmp_path, "print('ran')")
        environment = trainer_environment() | {"STEELYARD_PARENT_PID": "1"}
        argv = [sys.executable, "-m", _MODULE, str(run_path)]
        assert subprocess.run(argv, env=environment, check=False).returncode == 137
        assert not run_path.with_name("outcome.json").exists()
