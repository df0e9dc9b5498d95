"""Group-relative policy optimization against a reward model: `python -m steelyard.trainers.grpo run.json`.

Each prompt gets `num_generations` answers; an answer's advantage is how much better than its group it scored
(Shao et al. 2024). `per_device_train_batch_size` counts answers.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig

from steelyard.runtime.context import Context
from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.runtime.session import conduct
from steelyard.specs.outcome import Outcome
from steelyard.specs.states import Reason
from steelyard.trainers.arguments import common_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.course import leave_if_asked, run_course
from steelyard.trainers.generation import sampling_for
from steelyard.trainers.grpo_trainer import SteelyardGRPOTrainer
from steelyard.trainers.model import load_model, load_tokenizer, lora_config
from steelyard.trainers.online_figures import measure_rewards
from steelyard.trainers.orders import Orders, read_orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.policy_training import measure_kl, read_online, reference_of, refuse_head_adapter
from steelyard.trainers.prompts import Prompts, load_prompts
from steelyard.trainers.reward_model import Scorer, open_scorer


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step, or while it was measured.
    """
    return _GrpoTraining(context).run()


class _GrpoTraining:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._orders = read_orders(context.run)
        self._block = read_online(self._orders)
        self._prompts = Prompts([], [])
        self._scorer: Scorer | None = None

    def run(self) -> Outcome:
        return run_course(self._context, self._prepare, self._measure)

    def _prepare(self, context: Context, orders: Orders, step_end: StepEnd) -> SteelyardGRPOTrainer:
        refuse_head_adapter(orders.spec.peft)
        _require_whole_groups(self._answers_per_step(), self._block.num_generations)
        tokenizer: Any = load_tokenizer(orders.model_path, orders.model)
        arguments = self._build_arguments()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._scorer = open_scorer(orders.run.reward_model_path, self._block.reward_model, device)
        context.enter("tokenizing")
        self._prompts = load_prompts(orders.dataset, tokenizer, orders.spec.training, "grpo")
        self._require_prompts()
        context.enter("loading")
        leave_if_asked(context)
        return SteelyardGRPOTrainer(
            context=context,
            model=load_model(orders.model_path, orders.model),
            args=arguments,
            reward_funcs=_as_reward_function(self._scorer, tokenizer.eos_token_id),
            train_dataset=Dataset.from_dict({"prompt": [each.source for each in self._prompts.train]}),
            processing_class=tokenizer,
            peft_config=lora_config(orders.spec.peft),
            callbacks=[step_end],
        )

    def _answers_per_step(self) -> int:
        training = self._orders.spec.training
        per_process = training.per_device_train_batch_size * training.gradient_accumulation_steps
        return per_process * self._context.rank.world_size

    def _require_prompts(self) -> None:
        needed = self._answers_per_step() // self._block.num_generations
        found = len(self._prompts.train)
        if found < needed:
            raise bad_config(
                Reason.DATASET_EMPTY,
                f"A step answers {needed} different prompts, and the train split has {found}: lower "
                "training.per_device_train_batch_size or gradient_accumulation_steps, or take more prompts.",
                param="training.per_device_train_batch_size",
            )

    def _build_arguments(self) -> GRPOConfig:
        output_dir = str(self._context.attempt_dir / "trainer")
        return GRPOConfig(
            **common_arguments(self._orders.spec, self._context.rank, output_dir),
            gradient_checkpointing=self._orders.spec.training.gradient_checkpointing,
            beta=self._block.beta,
            num_generations=self._block.num_generations,
            max_completion_length=self._block.max_completion_length,
            temperature=self._block.temperature,
            epsilon=self._block.cliprange,
            # What was sampled and what is learned from must be one distribution.
            disable_dropout=True,
        )

    def _measure(self, trainer: PlatformTrainer) -> dict[str, float]:
        policy: Any = trainer.accelerator.unwrap_model(trainer.model)
        reference = reference_of(trainer, self._orders)
        tokenizer: Any = trainer.processing_class
        prompts = self._prompts.measured
        if self._scorer is None:
            raise RuntimeError("what is measured was prepared before")
        rewards = measure_rewards(
            policy,
            reference,
            self._scorer,
            tokenizer,
            prompts,
            sampling_for(tokenizer, self._block.max_completion_length, self._block.temperature),
            seed=self._orders.spec.training.seed,
            on_batch=lambda _: leave_if_asked(self._context),
        )
        ids = [prompt.ids for prompt in prompts]
        return rewards | measure_kl(self._context, self._orders, policy, reference, tokenizer, ids)


def _require_whole_groups(answers: int, group: int) -> None:
    if answers % group:
        raise _no_whole_groups(answers, group)


def _no_whole_groups(answers: int, group: int) -> RunFailure:
    return bad_config(
        Reason.BAD_CONFIG,
        f"A step makes {answers} answers (training.per_device_train_batch_size times "
        f"gradient_accumulation_steps times processes), which can't be cut into groups of "
        f"online.num_generations {group}: make it a multiple.",
        param="training.per_device_train_batch_size",
    )


def _as_reward_function(scorer: Scorer, end_token_id: int) -> Callable[..., list[float]]:
    """Make what TRL asks for scores. Texts are tokenized anew, so the reward model's tokenizer may differ."""

    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        rows: list[dict[str, Any]] = []
        for prompt, completion, ids in zip(prompts, completions, completion_ids, strict=True):
            ended = bool(ids) and ids[-1] == end_token_id
            closing = scorer.end_text if ended and isinstance(completion, str) else ""
            rows.append({"prompt": prompt, "completion": completion + closing if closing else completion})
        return scorer.score(rows)

    return reward


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
