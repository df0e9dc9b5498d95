"""A reward model from preference pairs: `python -m steelyard.trainers.reward run.json`.

What comes out is one whole sequence classifier with one label, whatever it was trained with.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.reward_config import RewardConfig

from steelyard.runtime.context import Context
from steelyard.runtime.failures import bad_config
from steelyard.runtime.session import conduct
from steelyard.specs.methods import REWARD_ACCURACY
from steelyard.specs.outcome import Outcome
from steelyard.specs.states import Reason
from steelyard.trainers.arguments import common_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.course import leave_if_asked, run_course
from steelyard.trainers.model import load_tokenizer, lora_config
from steelyard.trainers.orders import Orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.preference_figures import MOST_ROWS
from steelyard.trainers.preferences import Judged, Preferences, load_preferences
from steelyard.trainers.reward_model import start_reward_model
from steelyard.trainers.reward_trainer import SteelyardRewardTrainer

_BATCH = 16


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step, or while it was measured.
    """
    return _RewardTraining(context).run()


class _RewardTraining:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._heldout: list[Judged] = []

    def run(self) -> Outcome:
        return run_course(self._context, self._prepare, self._measure)

    def _prepare(self, context: Context, orders: Orders, step_end: StepEnd) -> SteelyardRewardTrainer:
        _refuse_sharded_adapter(orders)
        tokenizer: Any = load_tokenizer(orders.model_path, orders.model)
        arguments = _build_arguments(context, orders)
        context.enter("tokenizing")
        found = load_preferences(orders.dataset, tokenizer, orders.spec.training, "reward")
        self._heldout = found.heldout[:MOST_ROWS]
        context.enter("loading")
        leave_if_asked(context)
        return SteelyardRewardTrainer(
            context=context,
            model=start_reward_model(
                orders.model_path, orders.model, tokenizer.pad_token_id, orders.spec.training.seed
            ),
            args=arguments,
            train_dataset=_as_dataset(found),
            processing_class=tokenizer,
            peft_config=lora_config(orders.spec.peft, scorer=True),
            callbacks=[step_end],
        )

    def _measure(self, trainer: PlatformTrainer) -> dict[str, float]:
        if not self._heldout:
            return {}
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        margins = _margins(self._context, model, self._heldout)
        return {
            REWARD_ACCURACY: fmean(margin > 0 for margin in margins),
            f"{REWARD_ACCURACY}_n": float(len(margins)),
            "reward/margin": fmean(margins),
        }


def _refuse_sharded_adapter(orders: Orders) -> None:
    # An adapter is merged at the end, and of sharded weights no rank has the whole.
    if orders.spec.peft is not None and orders.spec.distributed.strategy == "fsdp":
        raise bad_config(
            Reason.BAD_CONFIG,
            "Method reward merges its adapter, which sharded weights don't allow: use strategy ddp, or train "
            "all weights.",
            param="distributed.strategy",
        )


def _build_arguments(context: Context, orders: Orders) -> RewardConfig:
    return RewardConfig(
        **common_arguments(orders.spec, context.rank, str(context.attempt_dir / "trainer")),
        gradient_checkpointing=orders.spec.training.gradient_checkpointing,
        max_length=None,
    )


def _as_dataset(found: Preferences) -> Dataset:
    sequences = [each.sequences for each in found.train]
    return Dataset.from_dict(
        {"chosen_ids": [pair[0] for pair in sequences], "rejected_ids": [pair[1] for pair in sequences]}
    )


@torch.no_grad()
def _margins(context: Context, model: Any, pairs: Sequence[Judged]) -> list[float]:
    """Return how much higher each pair's chosen answer is scored than its rejected one."""
    model.eval()
    # Neighbours in length share a batch, so that little is padded.
    ordered = sorted(range(len(pairs)), key=lambda index: pairs[index].length)
    margins = [0.0] * len(pairs)
    for start in range(0, len(ordered), _BATCH):
        leave_if_asked(context)
        chunk = ordered[start : start + _BATCH]
        scores = _score(model, [ids for index in chunk for ids in pairs[index].sequences])
        for place, index in enumerate(chunk):
            margins[index] = scores[2 * place] - scores[2 * place + 1]
    return margins


def _score(model: Any, sequences: list[list[int]]) -> list[float]:
    longest = max(len(ids) for ids in sequences)
    pad = model.config.pad_token_id
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in sequences], device=model.device)
    marks = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in sequences]
    mask = torch.tensor(marks, device=model.device)
    return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].float().tolist()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
