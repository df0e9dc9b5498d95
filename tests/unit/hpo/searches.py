"""Makes searches and their children, for tests that run no trial."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from steelyard.hpo.search import next_step
from steelyard.specs.families import Child
from steelyard.specs.job import JOB_SPEC, HpoSpec
from steelyard.specs.states import JobState

RATE: dict[str, Any] = {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}
TRIAL: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "trial",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "rows@v1"},
    "peft": {"type": "lora"},
    "training": {"max_steps": 81, "eval_steps": 1},
    "evaluation": {"suites": ["heldout"]},
}


def search_spec(*, trial: dict[str, Any] | None = None, **changes: Any) -> HpoSpec:
    """A search whose block has `changes`."""
    block: dict[str, Any] = {
        "algorithm": "random",
        "metric": "heldout/loss",
        "direction": "minimize",
        "parameters": {"training.learning_rate": RATE},
        "max_trials": 10,
        "max_concurrent_trials": 3,
    }
    spec = {
        "api_version": "steelyard/v1",
        "type": "hpo",
        "name": "search",
        "search": block | changes,
        "trial": TRIAL | (trial or {}),
    }
    parsed = JOB_SPEC.validate_json(json.dumps(spec))
    assert isinstance(parsed, HpoSpec)
    return parsed


def child(
    number: int,
    state: JobState = JobState.RUNNING,
    *,
    value: float | None = None,
    reason: str | None = None,
    curve: Sequence[tuple[int, float]] = (),
    parameters: dict[str, Any] | None = None,
    metric: str = "tuned/heldout/loss",
    is_due: bool = False,
) -> Child:
    """A child as the control plane tells of it."""
    return Child(
        key=f"trial-{number:04d}",
        job_id=f"job_{number}",
        state=state,
        reason=reason,
        parameters=parameters or {"training.learning_rate": 1e-3},
        metrics={} if value is None else {metric: value},
        curve=tuple(curve),
        is_due=is_due,
    )


def run_search(spec: HpoSpec, objective: Callable[[dict[str, Any]], float]) -> list[Child]:
    """Run a search whose trials end in the order that they began, one at each look; return the children."""
    children: list[Child] = []
    while True:
        step = next_step(spec, children)
        if step.end is not None:
            return children
        children += [
            Child(order.key, order.key, JobState.RUNNING, None, order.parameters) for order in step.start
        ]
        at = next(index for index, each in enumerate(children) if each.state is JobState.RUNNING)
        done = children[at]
        children[at] = Child(
            done.key,
            done.key,
            JobState.SUCCEEDED,
            None,
            done.parameters,
            {"tuned/heldout/loss": objective(done.parameters)},
        )
