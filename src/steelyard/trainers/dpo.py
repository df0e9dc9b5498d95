"""Direct preference optimization: `python -m steelyard.trainers.dpo run.json`.

The reference is the base model: the policy without its adapter, or, without one, a frozen copy.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig

from steelyard.runtime.context import Context
from steelyard.runtime.session import conduct
from steelyard.specs.methods import PreferenceBlock
from steelyard.specs.outcome import Outcome
from steelyard.trainers.arguments import common_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.course import leave_if_asked, run_course
from steelyard.trainers.model import load_model, load_tokenizer, lora_config
from steelyard.trainers.orders import Orders, read_orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.policy_training import measure_policy, refuse_head_adapter
from steelyard.trainers.preference_figures import pair_figures
from steelyard.trainers.preference_trainers import SteelyardDPOTrainer
from steelyard.trainers.preferences import Judged, Preferences, load_preferences


def main(run_path: str | Path) -> int:
    """Train as `run_path` says; return the exit code of the contract."""
    return conduct(Path(run_path), train)


def train(context: Context) -> Outcome:
    """Train from the start or a checkpoint to the last step, or until asked to leave.

    Raises:
        RunFailure: for a reason that the platform shows.
        Stopped: asked to leave before the first step, or while it was measured.
    """
    return _DpoTraining(context).run()


class _DpoTraining:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._orders = read_orders(context.run)
        self._block = self._orders.spec.preference or PreferenceBlock()
        self._rows = Preferences([], [])

    def run(self) -> Outcome:
        return run_course(self._context, self._prepare, self._measure)

    def _prepare(self, context: Context, orders: Orders, step_end: StepEnd) -> SteelyardDPOTrainer:
        refuse_head_adapter(orders.spec.peft)
        tokenizer = load_tokenizer(orders.model_path, orders.model)
        arguments = self._build_arguments()
        context.enter("tokenizing")
        self._rows = load_preferences(orders.dataset, tokenizer, orders.spec.training, "dpo")
        context.enter("loading")
        leave_if_asked(context)
        return SteelyardDPOTrainer(
            context=context,
            model=load_model(orders.model_path, orders.model),
            args=arguments,
            train_dataset=_as_dataset(self._rows.train),
            processing_class=tokenizer,
            peft_config=lora_config(orders.spec.peft),
            callbacks=[step_end],
        )

    def _build_arguments(self) -> DPOConfig:
        output_dir = str(self._context.attempt_dir / "trainer")
        return DPOConfig(
            **common_arguments(self._orders.spec, self._context.rank, output_dir),
            gradient_checkpointing=self._orders.spec.training.gradient_checkpointing,
            max_length=None,
            beta=self._block.beta,
            loss_type=[self._block.loss_type],
        )

    def _measure(self, trainer: PlatformTrainer) -> dict[str, float]:
        def figures(_: Sequence[Judged], rewards: Sequence[tuple[float, ...]]) -> dict[str, float]:
            return pair_figures([(chosen, rejected) for chosen, rejected in rewards])

        return measure_policy(self._context, self._orders, trainer, self._rows, self._block.beta, figures)


def _as_dataset(rows: Sequence[Judged]) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt_ids": [each.prompt_ids for each in rows],
            "chosen_ids": [each.answers[0] for each in rows],
            "rejected_ids": [each.answers[1] for each in rows],
        }
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
