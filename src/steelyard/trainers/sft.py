"""Supervised fine-tuning: `python -m steelyard.trainers.sft run.json`."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback

from steelyard.runtime.context import Context
from steelyard.runtime.failures import Stopped, bad_config
from steelyard.runtime.session import checkpointed, conduct
from steelyard.specs.blocks import ModelBlock
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.run import DatasetFiles, RunConfig
from steelyard.specs.states import Reason
from steelyard.trainers.arguments import build_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.model import load_model, load_tokenizer, lora_config, name_base
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.rows import read_rows
from steelyard.trainers.sft_trainer import SteelyardSFTTrainer
from steelyard.trainers.sharding import require_sharded
from steelyard.trainers.token_rows import open_rows
from steelyard.trainers.tokenizing import tokenize


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


@dataclass(frozen=True)
class Orders:
    """What a run must name for this trainer."""

    run: RunConfig
    spec: FineTuneSpec
    model: ModelBlock
    model_path: Path
    dataset: DatasetFiles


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step.
    """
    orders = _read_orders(context.run)
    torch.set_num_threads(orders.run.threads)
    quieten_libraries()
    resume_from = context.checkpoint.latest()
    trainer = _prepare(context, orders)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    context.step = trainer.state.global_step
    if trainer.state.global_step < trainer.state.max_steps:
        return checkpointed(context)
    context.enter("saving", trainer.state.max_steps)
    return _finish(context, orders, trainer)


def _read_orders(run: RunConfig | None) -> Orders:
    if run is None or not isinstance(run.spec, FineTuneSpec) or run.spec.model is None:
        raise bad_config(Reason.BAD_CONFIG, "This trainer runs fine_tune specs with a model block.")
    if run.model_path is None or run.dataset is None:
        raise bad_config(Reason.BAD_CONFIG, "run.json names no model folder or no dataset: submit again.")
    return Orders(run, run.spec, run.spec.model, Path(run.model_path), run.dataset)


def _prepare(context: Context, orders: Orders) -> SteelyardSFTTrainer:
    context.enter("loading")
    tokenizer = load_tokenizer(orders.model_path, orders.model)
    cached = _open_cache(orders)
    arguments = build_arguments(
        orders.spec,
        context.rank,
        str(context.attempt_dir / "trainer"),
        prepared=cached is not None,
    )
    rows = cached if cached is not None else _tokenize(context, orders, tokenizer)
    _leave_if_asked(context)
    step_end = StepEnd(context)
    trainer = SteelyardSFTTrainer(
        context=context,
        model=load_model(orders.model_path, orders.model),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(orders.spec.peft),
        callbacks=[step_end],
    )
    step_end.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    if orders.spec.distributed.strategy == "fsdp":
        trainer.add_callback(require_sharded())
    _leave_if_asked(context)
    return trainer


def _open_cache(orders: Orders) -> Dataset | None:
    """Map the rows that the platform has tokenized. All ranks look, so all ranks read the same."""
    if orders.run.tokens is None:
        return None
    found = open_rows(orders.run.tokens)
    if isinstance(found, str):
        print(f"the tokenized rows can't be used and are made anew: {found}", flush=True)  # noqa: T201 - the job's log
        return None
    print(f"{len(found)} sequences mapped, tokens {orders.run.tokens.digest}", flush=True)  # noqa: T201 - the job's log
    return found


def _tokenize(context: Context, orders: Orders, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    context.enter("tokenizing")
    dataset = orders.dataset
    rows = read_rows(dataset.train, dataset.format, "train")
    examples = tokenize(rows, dataset.format, tokenizer, orders.spec.training)
    context.enter("loading")
    return Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in examples],
            "labels": [example.labels for example in examples],
        }
    )


def _leave_if_asked(context: Context) -> None:
    # Ranks are not in step yet: torchrun ends the others when one leaves.
    if context.preempt.requested:
        raise Stopped


def _finish(context: Context, orders: Orders, trainer: SteelyardSFTTrainer) -> Outcome:
    def write(folder: Path) -> None:
        trainer.write_model(folder)
        if context.rank.is_main:
            name_base(folder, orders.model, orders.run.model_revision)

    folder = context.save_model(write, trainer.state.global_step)
    loss = next((entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry), None)
    return Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=ExitCode.DONE,
        reason=Reason.COMPLETED,
        message=f"Trained {trainer.state.global_step} steps.",
        step=trainer.state.global_step,
        model_dir=str(folder.relative_to(context.job_dir)),
        metrics={} if loss is None else {"train/loss": float(loss)},
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
