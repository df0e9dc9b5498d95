"""Searches over recorded trainings: what pruning and the estimator are worth, by the search's own rules.

    python -m bench.search --data FOLDER [--tasks N] [--seeds N] [--json]

FOLDER holds the surrogate of LCBench (`model.onnx`, `encoding.json` of slds-lmu/yahpo_data, Apache-2.0): 34
tasks, 7 hyperparameters, 52 epochs. It is read by onnxruntime, which is no dependency of the project. Eight
workers go on at once, an epoch a tick, until all of them together have had the epochs of 40 whole trainings.
After each tick `next_step` is asked, as the platform asks it.

Regret: 0 is the best final loss that anybody found on the task, 1 the median of 2,000 random points. What
counts is the trial that the search would choose: the best of those that trained to the end.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import argparse
import importlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.hpo import next_step
from steelyard.hpo.sampling import random_point
from steelyard.specs.families import Child
from steelyard.specs.job import JOB_SPEC, HpoSpec
from steelyard.specs.states import JobState

EPOCHS = 52
WORKERS = 8
TRAININGS = 40
LOOKS = (10, 20, 40)
"""Whole trainings after which the best is noted."""
_RANDOM_POINTS = 2000
_LOSS_COLUMN = 2
_NAMES = (
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)
PARAMETERS: dict[str, Any] = {
    "batch_size": {"type": "int", "low": 16, "high": 512, "log": True},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "momentum": {"type": "float", "low": 0.1, "high": 0.99},
    "weight_decay": {"type": "float", "low": 1e-5, "high": 1e-1},
    "num_layers": {"type": "int", "low": 1, "high": 5},
    "max_units": {"type": "int", "low": 64, "high": 1024, "log": True},
    "max_dropout": {"type": "float", "low": 0.0, "high": 1.0},
}
ASHA = {"type": "asha", "min_steps": 2, "reduction_factor": 4}
MEDIAN = {"type": "median", "min_steps": 4, "interval_steps": 4}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "random + median": ("random", MEDIAN),
    "random + asha": ("random", ASHA),
    "bayesian": ("bayesian", {}),
    "bayesian + median": ("bayesian", MEDIAN),
    "bayesian + asha": ("bayesian", ASHA),
}


class Surrogate:
    """Loss curves of LCBench's trainings."""

    def __init__(self, folder: Path) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(str(folder / "model.onnx"), options)
        encoding = json.loads((folder / "encoding.json").read_text())
        self._codes: dict[str, int] = encoding["OpenML_task_id"]
        self.tasks = sorted(task for task in self._codes if task.isdigit())[:34]

    def curve(self, task: str, point: dict[str, Any]) -> list[float]:
        """Return the validation cross-entropy after each epoch."""
        row = [float(point[name]) for name in _NAMES]
        rows = [[epoch, *row] for epoch in range(1, EPOCHS + 1)]
        return self._losses(task, rows)

    def finals(self, task: str, points: Sequence[dict[str, Any]]) -> list[float]:
        """Return the loss at the end of each training."""
        return self._losses(task, [[EPOCHS, *(float(point[name]) for name in _NAMES)] for point in points])

    def _losses(self, task: str, rows: list[list[float]]) -> list[float]:
        inputs = {
            "x_cat": np.full((len(rows), 1), self._codes[task], dtype=np.int32),
            "x_cont": np.array(rows, dtype=np.float32),
        }
        found: list[float] = self._session.run(None, inputs)[0][:, _LOSS_COLUMN].tolist()
        return found


@dataclass
class Outcome:
    """How one search went."""

    best: dict[int, float] = field(default_factory=dict[int, float])
    """Whole trainings spent -> the best final loss by then."""
    trials: int = 0
    finished: int = 0


def run_search(spec: HpoSpec, surrogate: Surrogate, task: str) -> Outcome:
    """Live a search through; an epoch of each of the workers a tick."""
    outcome, spent = Outcome(), 0
    children: list[Child] = []
    curves: dict[str, list[float]] = {}
    while spent < TRAININGS * EPOCHS:
        step = next_step(spec, children)
        stopped = {stop.key for stop in step.stop}
        children = [
            replace(each, state=JobState.CANCELLED, reason="pruned") if each.key in stopped else each
            for each in children
        ]
        for order in next_step(spec, children).start:
            children.append(Child(order.key, order.key, JobState.RUNNING, None, order.parameters))
            curves[order.key] = surrogate.curve(task, order.parameters)
        running = sum(each.state is JobState.RUNNING for each in children)
        children = [_after_epoch(each, curves[each.key]) for each in children]
        for mark in LOOKS:
            if spent < mark * EPOCHS <= spent + running:
                outcome.best[mark] = _best(children)
        spent += running
    outcome.trials = len(children)
    outcome.finished = sum(each.state is JobState.SUCCEEDED for each in children)
    return outcome


def spec_of(arm: str, seed: int) -> HpoSpec:
    """Return the search of an arm."""
    algorithm, pruning = ARMS[arm]
    trial = {
        "api_version": "steelyard/v1", "type": "fine_tune", "name": "trial",
        "model": {"name_or_path": "lcbench"}, "dataset": {"ref": "lcbench"},
        "training": {"max_steps": EPOCHS, "eval_steps": 1},
    }  # fmt: skip
    search = {
        "algorithm": algorithm, "metric": "eval/loss", "direction": "minimize", "parameters": PARAMETERS,
        "max_trials": 10_000, "max_concurrent_trials": WORKERS, "pruning": pruning, "seed": seed,
    }  # fmt: skip
    spec = {"api_version": "steelyard/v1", "type": "hpo", "name": "bench", "search": search, "trial": trial}
    parsed = JOB_SPEC.validate_json(json.dumps(spec))
    assert isinstance(parsed, HpoSpec)
    return parsed


def measure(surrogate: Surrogate, tasks: Sequence[str], seeds: int) -> dict[str, dict[str, float]]:
    """Return the median regret of each arm after each look, over tasks and seeds."""
    regrets: dict[str, dict[int, list[float]]] = {arm: {mark: [] for mark in LOOKS} for arm in ARMS}
    counts: dict[str, list[tuple[int, int]]] = {arm: [] for arm in ARMS}
    for task in tasks:
        block = spec_of("random", 10**6).search
        chance = surrogate.finals(task, [random_point(block, number) for number in range(_RANDOM_POINTS)])
        found = {
            # Every cell has draws of its own, the same for all arms that draw at random.
            (arm, seed): run_search(spec_of(arm, int(task) * 1000 + seed), surrogate, task)
            for arm in ARMS
            for seed in range(seeds)
        }
        least = min([*chance, *(min(each.best.values()) for each in found.values())])
        for (arm, _), outcome in found.items():
            counts[arm].append((outcome.trials, outcome.finished))
            for mark, loss in outcome.best.items():
                worst = statistics.median(chance)
                regrets[arm][mark].append(min(10.0, (loss - least) / (worst - least)))
    return {
        arm: {
            **{f"after_{mark}": round(statistics.median(regrets[arm][mark]), 3) for mark in LOOKS},
            "trials": statistics.median(trials for trials, _ in counts[arm]),
            "finished": statistics.median(finished for _, finished in counts[arm]),
            "better_than_random": sum(
                ours < theirs
                for ours, theirs in zip(regrets[arm][LOOKS[-1]], regrets["random"][LOOKS[-1]], strict=True)
            ),
            "cells": len(counts[arm]),
        }
        for arm in ARMS
    }


def main() -> None:
    """Print a line for each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=34)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    surrogate = Surrogate(chosen.data)
    stride = max(1, len(surrogate.tasks) // chosen.tasks)
    found = measure(surrogate, surrogate.tasks[::stride][: chosen.tasks], chosen.seeds)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for arm, figures in found.items():
        print(f"{arm:18}", "  ".join(f"{name} {value}" for name, value in figures.items()))


def _after_epoch(each: Child, curve: list[float]) -> Child:
    if each.state is not JobState.RUNNING:
        return each
    told = (*each.curve, (len(each.curve) + 1, curve[len(each.curve)]))
    if len(told) < EPOCHS:
        return replace(each, curve=told)
    return replace(each, curve=told, state=JobState.SUCCEEDED, metrics={"eval/loss": told[-1][1]})


def _best(children: Sequence[Child]) -> float:
    return min((each.metrics["eval/loss"] for each in children if each.metrics), default=float("inf"))


if __name__ == "__main__":
    main()
