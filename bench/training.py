"""One training, through the platform and by hand: the same model, rows, arguments and threads."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.live import BenchPlatform, read_steps, wait_until
from steelyard.specs.views import JobView

PLAIN = Path(__file__).resolve().with_name("plain_sft.py")
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


def fine_tune(model: str, *, batch: int, lora: bool, **training: Any) -> dict[str, Any]:
    """Return the job. No checkpoint falls into it: the interval is longer than any bench."""
    spec: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "bench",
        "model": {"name_or_path": model},
        "dataset": {"ref": "sums"},
        "training": {
            "learning_rate": 1.0e-4,
            "max_length": 64,
            "per_device_train_batch_size": batch,
            "seed": 7,
            **training,
        },
        "checkpoint": {"save_steps": 1_000_000},
        "resources": {"cpus": 1, "memory_gb": 3.0},
    }
    if lora:
        spec["peft"] = {"type": "lora", **LORA}
    return spec


def attempt_folder(platform: BenchPlatform, job: JobView, number: int = 1) -> Path:
    """Return the folder of an attempt of a job."""
    return platform.home / "attempts" / job.attempts[number - 1].id


def run_plain(orders_from: Path, scratch: Path, spec: dict[str, Any], until_step: int) -> tuple[float, Path]:
    """Run the training by hand until a step is logged, or to its end; return its start and its steps.

    Args:
        orders_from: folder of an attempt of the same job, whose model and rows are used.
        until_step: the process is killed once this step was logged.
    """
    run = json.loads((orders_from / "run.json").read_text())
    steps = scratch / "steps.jsonl"
    steps.unlink(missing_ok=True)
    orders = scratch / "orders.json"
    orders.write_text(json.dumps(_orders(run, spec, scratch, steps)))
    environment = {**os.environ, "OMP_NUM_THREADS": str(run["threads"]), "OMP_WAIT_POLICY": "passive"}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    started = time.time()
    with (scratch / "plain.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(PLAIN), str(orders)], env=environment, stdout=log, stderr=log
        )
        try:
            wait_until(
                lambda: process.poll() is not None or _reached(steps, until_step),
                f"step {until_step} of the training by hand",
                600,
            )
        finally:
            process.kill()
            process.wait()
    if not _reached(steps, until_step):
        raise RuntimeError((scratch / "plain.log").read_text()[-2000:])
    return started, steps


def _reached(steps: Path, step: int) -> bool:
    seen = read_steps(steps)
    return bool(seen) and seen[-1][0] >= step


def _orders(run: dict[str, Any], spec: dict[str, Any], scratch: Path, steps: Path) -> dict[str, Any]:
    """Say to the script by hand what the attempt was told."""
    training = spec["training"]
    return {
        "model_path": run["model_path"],
        "data": run["dataset"]["train"][0],
        "out": str(scratch / "out"),
        "steps_file": str(steps),
        "threads": run["threads"],
        "lora": LORA if "peft" in spec else None,
        "arguments": {
            "learning_rate": training["learning_rate"],
            "max_steps": training["max_steps"],
            "max_length": training["max_length"],
            "per_device_train_batch_size": training["per_device_train_batch_size"],
            "seed": training["seed"],
            "data_seed": training["seed"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
        },
    }
