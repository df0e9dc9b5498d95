"""Evaluation on the validation split: `python -m steelyard.trainers.evaluate run.json`.

Figures are named `base/<suite>/<figure>` and, where there is a finished model, `tuned/<suite>/<figure>`,
each with `<figure>/stderr` and the suite's `n` beside it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.context import Context
from steelyard.runtime.failures import Stopped, bad_config
from steelyard.runtime.session import conduct
from steelyard.specs.blocks import EvaluationBlock, ModelBlock
from steelyard.specs.job import EvalOnlySpec
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.run import DatasetFiles, RunConfig
from steelyard.specs.states import Reason
from steelyard.trainers.model import is_adapter, load_model, load_tokenizer
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.rows import read_rows
from steelyard.trainers.scoring import score
from steelyard.trainers.suites import Suite, choices_suite, first_rows, heldout_suite


@dataclass(frozen=True)
class Orders:
    """What a run must name for this stage."""

    run: RunConfig
    evaluation: EvaluationBlock
    model: ModelBlock
    model_path: Path
    tuned: Path | None
    dataset: DatasetFiles
    max_length: int


def main(run_path: str | Path) -> int:
    """Evaluate as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), evaluate)


def evaluate(context: Context) -> Outcome:
    """Score the base model, and the tuned one where there is one, on the same rows.

    An evaluation that was stopped begins anew: it changes nothing.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave.
    """
    orders = _read_orders(context.run)
    torch.set_num_threads(orders.run.threads)
    quieten_libraries()
    context.enter("loading")
    tokenizer = load_tokenizer(orders.model_path, orders.model)
    context.enter("tokenizing")
    suites = _suites(orders, tokenizer)
    padding: Any = tokenizer.pad_token_id
    metrics: dict[str, float] = {}
    progress = _Progress(
        context, sum(len(set(suite.samples)) for suite in suites) * (2 if orders.tuned else 1)
    )
    for name, model in _models(context, orders):
        for suite in suites:
            metrics |= _run_suite(name, suite, model, padding, progress)
        _print_figures(name, metrics)
    context.log_metrics(0, metrics)
    return Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=ExitCode.DONE,
        reason=Reason.COMPLETED,
        message=f"Evaluated {', '.join(suite.name for suite in suites)}.",
        metrics=metrics,
    )


def _read_orders(run: RunConfig | None) -> Orders:
    if run is None or run.spec.model is None or run.spec.evaluation is None:
        raise bad_config(Reason.BAD_CONFIG, "This stage needs a spec with a model and an evaluation block.")
    if run.model_path is None or run.dataset is None:
        raise bad_config(Reason.BAD_CONFIG, "run.json names no model folder or no dataset: submit again.")
    spec = run.spec
    max_length = spec.max_length if isinstance(spec, EvalOnlySpec) else spec.training.max_length
    return Orders(
        run=run,
        evaluation=run.spec.evaluation,
        model=run.spec.model,
        model_path=Path(run.model_path),
        tuned=Path(run.tuned_model_dir) if run.tuned_model_dir else None,
        dataset=run.dataset,
        max_length=max_length,
    )


def _suites(orders: Orders, tokenizer: PreTrainedTokenizerBase) -> list[Suite]:
    shape = orders.dataset.format
    rows = read_rows(orders.dataset.validation, shape, "validation")
    used = first_rows(rows, orders.evaluation.max_samples)
    make = {"heldout": heldout_suite, "choices": choices_suite}
    return [make[name](used, shape, tokenizer, orders.max_length) for name in orders.evaluation.suites]


def _models(context: Context, orders: Orders) -> Iterator[tuple[str, Any]]:
    """Yield the models to score, one in memory at a time. An adapter is laid over the base already loaded."""
    context.enter("loading")
    model: Any = _ready(load_model(orders.model_path, orders.model))
    if orders.tuned is not None and is_adapter(orders.tuned):
        adapted: Any = _ready(PeftModel.from_pretrained(model, orders.tuned))
        with adapted.disable_adapter():
            yield "base", adapted
        yield "tuned", adapted
        return
    yield "base", model
    if orders.tuned is not None:
        del model
        gc.collect()
        context.enter("loading")
        yield "tuned", _ready(load_model(orders.tuned, orders.model))


def _ready(model: Any) -> Any:
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _run_suite(
    name: str, suite: Suite, model: Any, pad_token_id: int, progress: "_Progress"
) -> dict[str, float]:
    figures = suite.summarise(score(model, suite.samples, pad_token_id, progress.note))
    progress.close_suite()
    found = {f"{name}/{suite.name}/n": float(suite.rows)}
    for figure, estimate in figures.items():
        found[f"{name}/{suite.name}/{figure}"] = estimate.value
        found[f"{name}/{suite.name}/{figure}/stderr"] = estimate.stderr
    return found


class _Progress:
    """Tells how many sequences are scored, and leaves where that is asked for."""

    def __init__(self, context: Context, total: int) -> None:
        self._context = context
        self._total = total
        self._before = 0
        self._now = 0

    def note(self, scored: int) -> None:
        self._now = self._before + scored
        self._context.tell(step=self._now, total_steps=self._total, phase="evaluating")
        if self._context.preempt.agree().stop:
            raise Stopped

    def close_suite(self) -> None:
        self._before = self._now


def _print_figures(name: str, metrics: dict[str, float]) -> None:
    for key, value in metrics.items():
        if key.startswith(f"{name}/") and not key.endswith(("/stderr", "/n")):
            print(f"{key} {value:.4f} +- {metrics[f'{key}/stderr']:.4f}", flush=True)  # noqa: T201 - the job's log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
