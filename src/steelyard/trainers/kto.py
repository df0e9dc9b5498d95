"""Kahneman-Tversky optimization, from single answers that are wanted or not:
`python -m steelyard.trainers.kto run.json`.

The reference is the base model: the policy without its adapter, or, without one, a frozen copy.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import random
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl.trainer.kto_config import KTOConfig

from steelyard.runtime.context import Context
from steelyard.runtime.failures import bad_config
from steelyard.runtime.session import conduct
from steelyard.specs.methods import PreferenceBlock
from steelyard.specs.outcome import Outcome
from steelyard.specs.states import Reason
from steelyard.trainers.arguments import common_arguments
from steelyard.trainers.callbacks import StepEnd
from steelyard.trainers.course import leave_if_asked, run_course
from steelyard.trainers.model import load_model, load_tokenizer, lora_config
from steelyard.trainers.orders import Orders, read_orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.policy_training import measure_policy, refuse_head_adapter
from steelyard.trainers.preference_figures import unpaired_figures
from steelyard.trainers.preference_trainers import SteelyardKTOTrainer
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
    return _KtoTraining(context).run()


class _KtoTraining:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._orders = read_orders(context.run)
        self._block = self._orders.spec.preference or PreferenceBlock()
        self._rows = Preferences([], [])

    def run(self) -> Outcome:
        return run_course(self._context, self._prepare, self._measure)

    def _prepare(self, context: Context, orders: Orders, step_end: StepEnd) -> SteelyardKTOTrainer:
        refuse_head_adapter(orders.spec.peft)
        training = orders.spec.training
        if training.per_device_train_batch_size < 2:
            raise bad_config(
                Reason.BAD_CONFIG,
                "Method kto estimates the divergence from mismatched answers of one batch: set "
                "training.per_device_train_batch_size to 2 or more.",
                param="training.per_device_train_batch_size",
            )
        tokenizer = load_tokenizer(orders.model_path, orders.model)
        arguments = self._build_arguments()
        context.enter("tokenizing")
        self._rows = load_preferences(orders.dataset, tokenizer, training, "kto")
        context.enter("loading")
        leave_if_asked(context)
        return SteelyardKTOTrainer(
            context=context,
            model=load_model(orders.model_path, orders.model),
            args=arguments,
            train_dataset=as_dataset(self._rows.train, training.per_device_train_batch_size, training.seed),
            processing_class=tokenizer,
            peft_config=lora_config(orders.spec.peft),
            callbacks=[step_end],
        )

    def _build_arguments(self) -> KTOConfig:
        output_dir = str(self._context.attempt_dir / "trainer")
        return KTOConfig(
            **common_arguments(self._orders.spec, self._context.rank, output_dir),
            gradient_checkpointing=self._orders.spec.training.gradient_checkpointing,
            max_length=None,
            beta=self._block.beta,
            desirable_weight=self._block.desirable_weight,
            undesirable_weight=self._block.undesirable_weight,
        )

    def _measure(self, trainer: PlatformTrainer) -> dict[str, float]:
        return measure_policy(
            self._context, self._orders, trainer, self._rows, self._block.beta, unpaired_figures
        )


def as_dataset(rows: Sequence[Judged], batch: int, seed: int) -> Dataset:
    """Mix rows and pair each prompt with another one's answer of its batch, which TRL estimates the KL from.

    TRL reads them in this order, since the mismatch must stay within a batch; data that is sorted by label
    would give batches of one label, so it is mixed here, by the seed.
    """
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)  # noqa: S311 - order of rows
    mismatched: list[list[int]] = []
    for start in range(0, len(mixed), batch):
        answers = [each.answers[0] for each in mixed[start : start + batch]]
        mismatched += [answers[-1], *answers[:-1]]
    return Dataset.from_dict(
        {
            "prompt_ids": [each.prompt_ids for each in mixed],
            "completion_ids": [each.answers[0] for each in mixed],
            "KL_completion_ids": mismatched,
            "label": [each.wanted for each in mixed],
        }
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
