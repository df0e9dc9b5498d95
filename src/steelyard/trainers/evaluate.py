"""Evaluation: `python -m steelyard.trainers.evaluate run.json`. The same for jobs that train and for others.

Each model is measured in each suite, shard by shard; what is finished is kept, so that an attempt which was
killed or paused is gone on with, and ends with the same digests. Figures are named `base/<suite>/<figure>`
and, where there is a finished model, `tuned/<suite>/<figure>`, each with `<figure>/stderr` and the suite's
`n` beside it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.context import Context
from steelyard.runtime.failures import Stopped
from steelyard.runtime.session import conduct
from steelyard.specs.blocks import EndpointBlock
from steelyard.specs.evaluations import RESULTS_FOLDER, Cell, CellResult, Subject, figures_by_name
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason
from steelyard.trainers.evaluate_models import EndpointModel, wrap_local
from steelyard.trainers.evaluate_orders import Orders, read_orders
from steelyard.trainers.evaluate_results import read_result, write_result
from steelyard.trainers.evaluate_shards import FinishedShard, Shard, ShardFolder, cut_shards
from steelyard.trainers.evaluate_suites import is_task_suite, load_workload
from steelyard.trainers.evaluate_workload import Measure, Record, Workload
from steelyard.trainers.model import is_adapter, load_model, load_tokenizer
from steelyard.trainers.quiet import quieten_libraries


def main(run_path: str | Path) -> int:
    """Evaluate as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), evaluate)


def evaluate(context: Context) -> Outcome:
    """Measure every cell that is not known yet.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave; the shards that are finished stay.
    """
    orders = read_orders(context.run)
    torch.set_num_threads(orders.run.threads)
    quieten_libraries()
    metrics: dict[str, float] = {}
    folder = context.job_dir / RESULTS_FOLDER
    finished = {cell.key: read_result(folder / cell.key) for cell in orders.cells if cell.known is None}
    for cell in orders.cells:
        result = finished.get(cell.key)
        metrics |= _figures_of(cell, result) if result else (cell.known or {})
    left = [cell for cell in orders.cells if cell.known is None and finished[cell.key] is None]
    if left:
        for result in _Evaluation(context, orders, left).run(folder):
            metrics |= _figures_of(result.cell, result)
    _print_figures(metrics)
    context.log_metrics(0, metrics)
    return Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=ExitCode.DONE,
        reason=Reason.COMPLETED,
        message=_message(orders.cells, left),
        metrics=metrics,
    )


@dataclass
class _Counter:
    """Tells how many samples are measured, and leaves where that is asked for."""

    context: Context
    total: int
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        self.context.tell(step=self.done, total_steps=self.total, phase="evaluating")
        if self.context.preempt.agree().stop:
            raise Stopped


class _Evaluation:
    def __init__(self, context: Context, orders: Orders, cells: Sequence[Cell]) -> None:
        self._context = context
        self._orders = orders
        self._cells = cells

    def run(self, folder: Path) -> Iterator[CellResult]:
        """Yield the result of each cell once it is on the disk."""
        context, orders = self._context, self._orders
        context.enter("loading")
        tokenizer = load_tokenizer(orders.tokenizer_path, orders.model) if orders.model else None
        context.enter("tokenizing")
        names = dict.fromkeys(cell.suite for cell in self._cells)
        scratch = context.attempt_dir / "engine"
        workloads = {name: load_workload(name, orders, tokenizer, scratch, context.secret) for name in names}
        counter = _Counter(context, sum(len(workloads[cell.suite].sample_ids) for cell in self._cells))
        for subject, model in self._models():
            for cell in self._cells:
                if cell.subject != subject:
                    continue
                measure = _Opening(workloads[cell.suite], model, tokenizer, orders)
                yield _run_cell(folder / cell.key, cell, workloads[cell.suite], measure, counter)

    def _models(self) -> Iterator[tuple[Subject, Any]]:
        """Yield the models to measure, one in memory at a time. An adapter is laid over the base loaded."""
        orders = self._orders
        if orders.endpoint is not None:
            yield "base", self._endpoint(orders.endpoint)
            return
        wanted: set[Subject] = {cell.subject for cell in self._cells}
        self._context.enter("loading")
        if orders.tuned is not None and is_adapter(orders.tuned):
            yield from self._adapted(orders.tuned, wanted)
            return
        if "base" in wanted:
            yield "base", self._load(orders.model_path)
        if orders.tuned is not None and "tuned" in wanted:
            gc.collect()
            self._context.enter("loading")
            yield "tuned", self._load(orders.tuned)

    def _adapted(self, adapter: Path, wanted: set[Subject]) -> Iterator[tuple[Subject, Any]]:
        base: Any = self._load(self._orders.model_path)
        adapted: Any = _ready(PeftModel.from_pretrained(base, adapter))
        if "base" in wanted:
            with adapted.disable_adapter():
                yield "base", adapted
        if "tuned" in wanted:
            yield "tuned", adapted

    def _load(self, folder: Path) -> Any:
        assert self._orders.model is not None
        adapter = self._orders.base_adapter
        model: Any = load_model(folder, self._orders.model)
        return _ready(PeftModel.from_pretrained(model, adapter) if adapter else model)

    def _endpoint(self, endpoint: EndpointBlock) -> EndpointModel:
        key = self._context.secret(endpoint.secret).strip() if endpoint.secret else None
        return EndpointModel(endpoint, key)


@dataclass
class _Opening:
    """A workload that is opened with a model when the first shard needs it, and not before."""

    workload: Workload
    model: Any
    tokenizer: PreTrainedTokenizerBase | None
    orders: Orders
    measure: Measure | None = None

    def __call__(self, places: Sequence[int]) -> list[Record]:
        if self.measure is None:
            self.measure = self.workload.open(self._wrapped())
        return self.measure(places)

    def _wrapped(self) -> Any:
        if self.tokenizer is None or not is_task_suite(self.workload.suite):
            return self.model
        return wrap_local(self.model, self.tokenizer, self.orders.evaluation.batch_size)


def _run_cell(
    folder: Path, cell: Cell, workload: Workload, measure: Measure, counter: _Counter
) -> CellResult:
    shards = ShardFolder(folder)
    records: list[Record] = []
    seconds = 0.0
    for shard in cut_shards(workload.sample_ids):
        finished = shards.read(shard)
        if finished is None:
            finished = _measure_shard(measure, shard)
            shards.write(shard, finished)
        records += finished.records
        seconds += finished.seconds
        counter.add(len(finished.records))
    return write_result(folder, cell, records, workload.figures(records), seconds)


def _measure_shard(measure: Measure, shard: Shard) -> FinishedShard:
    started = time.monotonic()
    records = measure(shard.places)
    return FinishedShard(records, time.monotonic() - started)


def _ready(model: Any) -> Any:
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _figures_of(cell: Cell, result: CellResult) -> dict[str, float]:
    return figures_by_name(cell.subject, cell.suite, result.figures)


def _message(cells: Sequence[Cell], left: Sequence[Cell]) -> str:
    suites = ", ".join(dict.fromkeys(cell.suite for cell in cells))
    known = sum(cell.known is not None for cell in cells)
    told = f"; {known} of {len(cells)} results were known already" if known else ""
    return f"Evaluated {suites}{told}." if left or not known else f"Nothing was left to evaluate{told}."


def _print_figures(metrics: dict[str, float]) -> None:
    for key, value in metrics.items():
        if not key.endswith(("/stderr", "/n")):
            print(f"{key} {value:.4f} +- {metrics[f'{key}/stderr']:.4f}", flush=True)  # noqa: T201 - the job's log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
