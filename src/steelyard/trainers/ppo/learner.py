"""The update: some passes over a rollout, each one step of AdamW on the clipped objective."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import warnings
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from transformers import get_scheduler

from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.methods import OnlineBlock
from steelyard.trainers.ppo.losses import policy_loss, value_loss
from steelyard.trainers.ppo.policy import Policy
from steelyard.trainers.ppo.rollouts import Rollout


class Learner:
    """Trains a policy and its value head. The learning rate follows the schedule over steps, not passes."""

    def __init__(self, policy: Policy, training: TrainingBlock, block: OnlineBlock, total_steps: int) -> None:
        self._policy = policy
        self._training = training
        self._block = block
        self._parameters = policy.parameters()
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self._schedule: Any = get_scheduler(
            training.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=training.warmup_steps,
            num_training_steps=total_steps,
        )

    def start_after(self, step: int) -> None:
        """Put the schedule where it is after `step` steps."""
        with warnings.catch_warnings():
            # That the optimizer has taken no step yet is so only in this process.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(step):
                self._schedule.step()

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from a rollout; return the means over the passes of losses, clips and the gradient's norm.

        Nothing is applied of a pass whose loss or gradient isn't finite; nor do the figures hide it.
        """
        passes = [self._pass(rollout) for _ in range(self._block.ppo_epochs)]
        figures = {key: sum(each[key] for each in passes) / len(passes) for key in passes[0]}
        figures["learning_rate"] = float(self._schedule.get_last_lr()[0])
        if _is_finite(figures):
            self._schedule.step()
        return figures

    def _pass(self, rollout: Rollout) -> dict[str, float]:
        size, count = self._training.per_device_train_batch_size, len(rollout.answers.ids)
        tokens = float(rollout.answers.answer_mask.sum())
        totals = {"loss": 0.0, "policy_loss": 0.0, "value_loss": 0.0, "clip_fraction": 0.0}
        for start in range(0, count, size):
            for key, value in self._accumulate(rollout.part(start, start + size), tokens).items():
                totals[key] += value
        norm = float(clip_grad_norm_(self._parameters, self._training.max_grad_norm))
        figures = {**totals, "grad_norm": norm}
        if _is_finite(figures):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures

    def _accumulate(self, part: Rollout, tokens: float) -> dict[str, float]:
        mask = part.answers.answer_mask.float()
        judged = self._policy.judge(part.answers)
        cliprange = self._block.cliprange
        of_policy, clips = policy_loss(
            judged.log_probs, part.log_probs, part.advantages, mask, cliprange, tokens
        )
        of_values = value_loss(judged.values, part.values, part.returns, mask, cliprange, tokens)
        loss = of_policy + self._block.vf_coef * of_values
        loss.backward()
        return {
            "loss": float(loss.detach()),
            "policy_loss": float(of_policy.detach()),
            "value_loss": float(of_values.detach()),
            "clip_fraction": clips,
        }


def _is_finite(figures: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in figures.values())
