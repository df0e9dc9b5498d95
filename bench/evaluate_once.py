"""One evaluation in a process of its own, by the platform's attempt or by hand; prints its seconds as JSON.

The clock runs from libraries imported to results written, loading of the model included, on both sides.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BATCH_SIZE = 16
TASKS = ("stdlib_modules", "stdlib_purposes")


def main(side: str, model: str, suite: str, scratch: str, limit: str) -> None:
    """Evaluate once and print what it took and what came of it."""
    run = _by_attempt if side == "steelyard" else _by_hand
    print(json.dumps(run(Path(model), Path(suite), Path(scratch), int(limit))))


def _by_attempt(model: Path, suite: Path, scratch: Path, limit: int) -> dict[str, Any]:
    evaluate: Any = importlib.import_module("steelyard.trainers.evaluate")
    importlib.import_module("lm_eval.models.huggingface")
    from steelyard.specs.run import RUN_NAME  # noqa: PLC0415 - imports are not what is measured

    path = scratch / RUN_NAME
    path.write_text(json.dumps(_orders(model, suite, scratch, limit)))
    sys.stdout = sys.stderr
    started = _clocks()
    code = evaluate.main(path)
    took = _since(started)
    sys.stdout = sys.__stdout__
    outcome = json.loads((scratch / "outcome.json").read_text())
    if code:
        raise SystemExit(outcome["message"])
    figures = {task: outcome["metrics"][f"base/bench/{task}.{metric}"] for task, metric in _METRICS}
    return {**took, "figures": figures}


def _by_hand(model: Path, suite: Path, scratch: Path, limit: int) -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")
    evaluator: Any = importlib.import_module("lm_eval.evaluator")
    huggingface: Any = importlib.import_module("lm_eval.models.huggingface")
    tasks: Any = importlib.import_module("lm_eval.tasks")
    yaml: Any = importlib.import_module("yaml")
    torch.set_num_threads(1)
    started = _clocks()
    configs: list[dict[str, Any]] = []
    for path in sorted(suite.glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        files = config["dataset_kwargs"]["data_files"]
        data = {split: str(suite / name) for split, name in files.items()}
        config["dataset_kwargs"] = {"data_files": data, "cache_dir": str(scratch / "data")}
        configs.append(config)
    loaded = huggingface.HFLM(str(model), device="cpu", dtype="float32", batch_size=BATCH_SIZE)
    found = evaluator.simple_evaluate(
        loaded, tasks=configs, task_manager=tasks.TaskManager(include_defaults=False), limit=limit
    )
    (scratch / "results.json").write_text(json.dumps(found["samples"], default=str))
    took = _since(started)
    figures = {task: found["results"][task][f"{metric},none"] for task, metric in _METRICS}
    return {**took, "figures": figures}


_METRICS = (("stdlib_modules", "exact_match"), ("stdlib_purposes", "acc"))


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> dict[str, float]:
    """Seconds on the wall, and of the processor: what others on the machine take is in the first alone."""
    wall, processor = _clocks()
    return {"seconds": wall - started[0], "processor_seconds": processor - started[1]}


def _orders(model: Path, suite: Path, scratch: Path, limit: int) -> dict[str, Any]:
    from steelyard.specs.cells import Contestant, plan_cells  # noqa: PLC0415 - as above
    from steelyard.specs.evaluations import SuiteFolder  # noqa: PLC0415 - as above
    from steelyard.specs.job import EvalOnlySpec  # noqa: PLC0415 - as above

    spec: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "eval_only",
        "name": "bench",
        "model": {"name_or_path": str(model)},
        "evaluation": {"suites": ["bench"], "batch_size": BATCH_SIZE, "max_samples": limit},
    }
    folder = SuiteFolder(name="bench", digest="sha256:" + "0" * 64, path=str(suite), tasks=list(TASKS))
    parsed = EvalOnlySpec.model_validate_json(json.dumps(spec))
    cells = plan_cells(parsed, [Contestant("base", "sha256:" + "0" * 64)], [folder], None)
    return {
        "stage": "evaluate",
        "project": "default",
        "job_id": "job_bench",
        "job_name": "bench",
        "attempt_id": "att_bench",
        "attempt_number": 1,
        "epoch": 1,
        "spec": spec,
        "job_dir": str(scratch),
        "attempt_dir": str(scratch),
        "model_path": str(model),
        "dataset": None,
        "evaluation": {
            "cells": [cell.model_dump(mode="json") for cell in cells],
            "suites": [folder.model_dump(mode="json")],
        },
        "resume_from": None,
        "api_url": None,
        "tracking": None,
        "threads": 1,
    }


if __name__ == "__main__":
    os.environ.pop("STEELYARD_RUN", None)
    main(*sys.argv[1:])
