"""Supervised fine-tuning: `python -m steelyard.trainers.sft run.json`."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.context import Context
from steelyard.runtime.session import conduct
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.outcome import Outcome
from steelyard.trainers.arguments import build_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.course import leave_if_asked, run_course
from steelyard.trainers.held_out import HeldOutLoss, open_held_out
from steelyard.trainers.model import load_model, load_tokenizer, lora_config
from steelyard.trainers.orders import Orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.rows import read_rows
from steelyard.trainers.sft_trainer import SteelyardSFTTrainer
from steelyard.trainers.token_rows import open_rows
from steelyard.trainers.tokenizing import tokenize


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step.
    """
    run = context.run
    looks = (
        run is not None and isinstance(run.spec, FineTuneSpec) and run.spec.training.eval_steps is not None
    )
    return run_course(context, _prepare, _measure if looks else None)


def _prepare(context: Context, orders: Orders, step_end: StepEnd) -> SteelyardSFTTrainer:
    tokenizer = load_tokenizer(orders.model_path, orders.model)
    cached = _open_cache(orders)
    arguments = build_arguments(
        orders.spec,
        context.rank,
        str(context.attempt_dir / "trainer"),
        prepared=cached is not None,
    )
    rows = cached if cached is not None else _tokenize(context, orders, tokenizer)
    every_steps = orders.spec.training.eval_steps
    looks = [] if every_steps is None else [open_held_out(context, orders, tokenizer, every_steps)]
    leave_if_asked(context)
    return SteelyardSFTTrainer(
        context=context,
        model=load_model(orders.model_path, orders.model),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(orders.spec.peft),
        # In this order: what the step's end decides, a look goes by.
        callbacks=[step_end, *looks],
    )


def _measure(trainer: PlatformTrainer) -> dict[str, float]:
    looks = [each for each in trainer.callback_handler.callbacks if isinstance(each, HeldOutLoss)]
    return looks[0].figures(trainer.model, trainer.state.global_step)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
