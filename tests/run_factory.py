"""Makes `run.json` files and the folders around them, for tests that run real trainers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from steelyard.specs.outcome import OUTCOME_NAME, Outcome
from steelyard.specs.run import RUN_NAME, RunConfig
from steelyard.trainers.builtin import ensure_builtin

PAIRS = [
    {"prompt": f"What is {number} and {number}?", "completion": f" It is {2 * number}, the double."}
    for number in range(40)
]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"Say the number {number}."},
            {"role": "assistant", "content": f"The number is {number}."},
        ]
    }
    for number in range(24)
]
TEXTS = [{"text": f"Row {number} holds plain text."} for number in range(24)]

TRAINING: dict[str, Any] = {
    "learning_rate": 3.0e-3,
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "max_length": 64,
    "seed": 7,
}


def fine_tune_spec(**changes: Any) -> dict[str, Any]:
    """A small SFT spec; keyword arguments replace blocks."""
    spec: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "small",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "pairs@v1"},
        "training": TRAINING,
        "checkpoint": {"save_steps": 2, "save_total_limit": 3},
    }
    return spec | changes


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write JSON Lines; return the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_run(
    job_dir: Path,
    *,
    spec: dict[str, Any] | None = None,
    epoch: int = 1,
    rows: list[dict[str, Any]] | None = None,
    validation: list[dict[str, Any]] | None = None,
    shape: str = "prompt_completion",
    **fields: Any,
) -> Path:
    """Write an attempt's folder with its `run.json`; return the file's path.

    The base model is cached beside the job's folder, so that a test's attempts share it.
    """
    attempt_dir = job_dir / "attempts" / f"a{epoch}"
    attempt_dir.mkdir(parents=True)
    data = job_dir.parent / "data"
    train = write_rows(data / "train.jsonl", PAIRS if rows is None else rows)
    held_out = write_rows(data / "validation.jsonl", validation or PAIRS[:8])
    orders: dict[str, Any] = {
        "stage": "train",
        "project": "default",
        "job_id": "job_1",
        "job_name": "small",
        "attempt_id": f"att_{epoch}",
        "attempt_number": epoch,
        "epoch": epoch,
        "spec": spec or fine_tune_spec(),
        "job_dir": str(job_dir),
        "attempt_dir": str(attempt_dir),
        "model_path": str(ensure_builtin("builtin/tiny-random", job_dir.parent / "cache").path),
        "dataset": {"digest": "d", "format": shape, "train": [train], "validation": [held_out]},
        "resume_from": None,
        "api_url": None,
        "tracking": None,
    }
    run = RunConfig.model_validate_json(json.dumps(orders | fields))
    path = attempt_dir / RUN_NAME
    path.write_text(run.model_dump_json())
    return path


def trainer_environment(threads: int = 1) -> dict[str, str]:
    """The environment that a launched trainer gets: its threads, no talk of its parent."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STEELYARD_")}
    return clean | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}


def start_trainer(
    run_path: Path, module: str = "steelyard.trainers.sft", threads: int = 1
) -> subprocess.Popen[bytes]:
    """Start a trainer as an own process, its log beside `run.json`."""
    with run_path.with_name("log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(run_path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=trainer_environment(threads),
        )


def read_outcome(run_path: Path) -> Outcome:
    """Read `outcome.json` beside `run.json`."""
    return Outcome.model_validate_json(run_path.with_name(OUTCOME_NAME).read_bytes())


def read_run(run_path: Path) -> RunConfig:
    """Read `run.json` back."""
    return RunConfig.model_validate_json(run_path.read_bytes())
