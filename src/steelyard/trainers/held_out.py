"""Looks at the validation split while a model is trained: the loss of a token there, `eval/loss`."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from steelyard.runtime.context import Context
from steelyard.runtime.failures import bad_config
from steelyard.specs.states import Reason
from steelyard.trainers.orders import Orders
from steelyard.trainers.rows import read_rows
from steelyard.trainers.scoring import Sample, mean_loss, score
from steelyard.trainers.suites import first_rows, heldout_samples

EVAL_LOSS = "eval/loss"


class HeldOutLoss(TrainerCallback):
    """Measures as the suite `heldout` does, every `every_steps` and at the last step.

    Every rank measures all samples, so that none waits for another, nor a sharded model for a rank. Training
    is as if there were no looks: none draws a random number, and the model's mode is what it was.
    """

    def __init__(self, context: Context, samples: Sequence[Sample], padding: int, every_steps: int) -> None:
        self._context = context
        self._samples = samples
        self._padding = padding
        self._every_steps = every_steps
        self._last: tuple[int, float] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the look that an attempt before left out when it was asked to leave."""
        if state.global_step > 0 and self._is_due(state):
            self._look(kwargs["model"], state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look, where it is time and nobody is waiting for this process to leave."""
        leaves = control.should_training_stop and state.global_step < state.max_steps
        if self._is_due(state) and not leaves:
            self._look(kwargs["model"], state)

    def figures(self, model: Any, step: int) -> dict[str, float]:
        """Return what the trained model's loss is; nothing where that is no finite number."""
        if self._last is None or self._last[0] != step:
            self._last = (step, self.measure(model))
        loss = self._last[1]
        return {EVAL_LOSS: loss} if math.isfinite(loss) else {}

    def measure(self, model: Any) -> float:
        """Return the loss of a token over the samples, in nats."""
        was_training = model.training
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            model.eval()
            try:
                return mean_loss(score(model, self._samples, self._padding, _ignore)).value
            finally:
                model.train(was_training)

    def _is_due(self, state: TrainerState) -> bool:
        return state.global_step % self._every_steps == 0 or state.global_step >= state.max_steps

    def _look(self, model: Any, state: TrainerState) -> None:
        step, loss = state.global_step, self.measure(model)
        self._last = (step, loss)
        self._context.add_point(step, EVAL_LOSS, loss)
        self._context.log_metrics(step, {EVAL_LOSS: loss})
        if self._context.rank.is_main:
            print(f"step {step}/{state.max_steps}  {EVAL_LOSS} {loss:.4f}", flush=True)  # noqa: T201 - the job's log


def open_held_out(
    context: Context, orders: Orders, tokenizer: PreTrainedTokenizerBase, every_steps: int
) -> HeldOutLoss:
    """Return what looks at the first rows, by content hash, of the run's validation split.

    Raises:
        RunFailure: the split has no row, or none of which a token is scored.
    """
    dataset, training = orders.dataset, orders.spec.training
    rows = first_rows(read_rows(dataset.validation, dataset.format, "validation"), training.eval_max_samples)
    found = heldout_samples(rows, dataset.format, tokenizer, training.max_length)
    samples = [sample for _, sample in found]
    if not samples:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"No validation row has a token to score within {training.max_length} tokens: raise"
            " training.max_length, or leave out training.eval_steps.",
            param="training.eval_steps",
        )
    padding: Any = tokenizer.pad_token_id
    return HeldOutLoss(context, samples, padding, every_steps)


def _ignore(_: int) -> None:
    return None
