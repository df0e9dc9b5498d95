"""The course of PPO: rollouts and updates from the start or a checkpoint to the last step, or to the door."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import PreTrainedTokenizerBase, set_seed
from trl.trainer.utils import disable_dropout_in_model

from steelyard.runtime.context import Context
from steelyard.runtime.failures import bad_config, not_finite
from steelyard.runtime.session import checkpointed, conduct
from steelyard.specs.methods import OnlineBlock
from steelyard.specs.outcome import Outcome
from steelyard.specs.states import Reason
from steelyard.trainers.course import conclude, leave_if_asked
from steelyard.trainers.generation import sampling_for
from steelyard.trainers.model import load_model, load_tokenizer, lora_config
from steelyard.trainers.online_figures import measure_rewards
from steelyard.trainers.orders import Orders, read_orders
from steelyard.trainers.policy_training import measure_kl, read_online
from steelyard.trainers.ppo.controls import BetaControl, Controls, ScoreScale
from steelyard.trainers.ppo.learner import Learner
from steelyard.trainers.ppo.order import PromptOrder
from steelyard.trainers.ppo.policy import Policy
from steelyard.trainers.ppo.rollouts import Roller
from steelyard.trainers.ppo.state import read_controls, restore_learning, restore_weights, write_state
from steelyard.trainers.prompts import Prompts, load_prompts
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.references import Reference
from steelyard.trainers.reward_model import Scorer, open_scorer


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    A step is one rollout of `per_device_train_batch_size * gradient_accumulation_steps` answers and
    `ppo_epochs` updates on it.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step, or while it was measured.
    """
    orders = read_orders(context.run)
    _require_one_process(orders)
    torch.set_num_threads(orders.run.threads)
    quieten_libraries()
    resume_from = context.checkpoint.latest()
    context.enter("loading")
    training = _Training(context, orders, read_online(orders))
    leave_if_asked(context)
    return training.run(resume_from)


def _require_one_process(orders: Orders) -> None:
    if orders.spec.distributed.strategy != "none":
        raise bad_config(
            Reason.BAD_CONFIG,
            "Method ppo trains in one process: set distributed.strategy to none, or use method grpo.",
            param="distributed.strategy",
        )


@dataclass(frozen=True)
class _Parts:
    """All that is loaded before the first step."""

    tokenizer: PreTrainedTokenizerBase
    prompts: Prompts
    scorer: Scorer
    policy: Policy
    reference: Reference


class _Training:
    def __init__(self, context: Context, orders: Orders, block: OnlineBlock) -> None:
        self._context = context
        self._orders = orders
        self._block = block
        self._training = orders.spec.training
        self._parts = _load(context, orders, block)
        per_step = self._training.per_device_train_batch_size * self._training.gradient_accumulation_steps
        self._order = PromptOrder(len(self._parts.prompts.train), per_step, self._training.seed)
        self._total = self._training.max_steps or self._order.steps_of(self._training.num_train_epochs or 1.0)
        self._learner = Learner(self._parts.policy, self._training, block, self._total)
        self._controls = Controls(
            BetaControl(block.beta, block.target_kl), ScoreScale(block.use_score_scaling)
        )
        self._step = 0

    def run(self, resume_from: Path | None) -> Outcome:
        if resume_from is not None:
            self._restore(resume_from)
        roller = self._roller()
        while self._step < self._total:
            if self._context.preempt.agree().stop:
                return checkpointed(self._context)
            self._take_step(roller)
            if self._context.leave_after(self._step, self._write) and self._step < self._total:
                return checkpointed(self._context)
        self._context.step = self._step
        self._context.enter("evaluating", self._total)
        metrics = self._measure()
        self._context.enter("saving", self._total)
        return conclude(self._context, self._orders, self._step, self._write_model, metrics)

    def _restore(self, folder: Path) -> None:
        self._step, self._controls = read_controls(folder)
        self._context.step = self._step
        restore_weights(folder, self._parts.policy.model)
        self._learner.start_after(self._step)
        restore_learning(folder, self._parts.policy, self._learner)

    def _roller(self) -> Roller:
        parts = self._parts
        sampling = sampling_for(parts.tokenizer, self._block.max_completion_length, self._block.temperature)
        return Roller(
            parts.policy,
            parts.reference,
            parts.scorer,
            parts.tokenizer,
            sampling,
            self._block,
            self._training.per_device_train_batch_size,
        )

    def _take_step(self, roller: Roller) -> None:
        began, step = time.monotonic(), self._step + 1
        prompts = [self._parts.prompts.train[place] for place in self._order.of_step(step)]
        self._parts.policy.model.train()
        rollout = roller.roll(prompts, self._controls)
        figures = rollout.figures | self._learner.update(rollout)
        if not all(math.isfinite(value) for value in figures.values()):
            raise not_finite(step)
        self._step = step
        speed = float(rollout.answers.mask.sum()) / (time.monotonic() - began)
        self._tell(figures, speed)

    def _tell(self, figures: dict[str, float], speed: float) -> None:
        loss = figures.pop("loss")
        if self._step % self._training.logging_steps == 0 or self._step == self._total:
            self._context.log_metrics(self._step, {"loss": loss, "tokens_per_second": speed, **figures})
            self._context.tell(
                step=self._step,
                total_steps=self._total,
                loss=loss,
                tokens_per_second=speed,
                metrics=figures,
            )
            told = f"step {self._step}/{self._total}  loss {loss:.4f}  reward {figures['reward']:.3f}"
            print(f"{told}  kl {figures['kl']:.4f}  {speed:.0f} tokens/s", flush=True)  # noqa: T201 - the job's log
        else:
            self._context.tell(step=self._step, total_steps=self._total, loss=loss, tokens_per_second=speed)

    def _write(self, folder: Path) -> None:
        write_state(folder, self._step, self._parts.policy, self._learner, self._controls)

    def _write_model(self, folder: Path) -> None:
        self._parts.policy.model.save_pretrained(folder)
        tokenizer: Any = self._parts.tokenizer
        tokenizer.save_pretrained(folder)

    def _measure(self) -> dict[str, float]:
        parts, prompts = self._parts, self._parts.prompts.measured
        rewards = measure_rewards(
            parts.policy.model,
            parts.reference,
            parts.scorer,
            parts.tokenizer,
            prompts,
            sampling_for(parts.tokenizer, self._block.max_completion_length, self._block.temperature),
            seed=self._training.seed,
            on_batch=lambda _: leave_if_asked(self._context),
        )
        return rewards | measure_kl(
            self._context,
            self._orders,
            parts.policy.model,
            parts.reference,
            parts.tokenizer,
            [prompt.ids for prompt in prompts],
        )


def _load(context: Context, orders: Orders, block: OnlineBlock) -> _Parts:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(orders.model_path, orders.model)
    scorer = open_scorer(orders.run.reward_model_path, block.reward_model, device)
    context.enter("tokenizing")
    prompts = load_prompts(orders.dataset, tokenizer, orders.spec.training, "ppo")
    context.enter("loading")
    set_seed(orders.spec.training.seed)
    model: Any = load_model(orders.model_path, orders.model)
    frozen: Any = None
    adapter = lora_config(orders.spec.peft)
    if adapter is None:
        frozen = load_model(orders.model_path, orders.model)
        frozen.requires_grad_(False).to(device)
    else:
        model = get_peft_model(model, adapter)
    # What was sampled and what is learned from must be one distribution.
    disable_dropout_in_model(model)
    if orders.spec.training.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to(device)
    return _Parts(tokenizer, prompts, scorer, Policy(model, block.temperature), Reference(model, frozen))
