"""TRL's trainers of preferences on the platform. Rows come tokenized, so TRL's preparation is passed by."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

from datasets import Dataset
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from steelyard.trainers.platform_trainer import PlatformTrainer


class SteelyardDPOTrainer(PlatformTrainer, DPOTrainer):
    """`DPOTrainer` over rows of `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        return dataset


class SteelyardKTOTrainer(PlatformTrainer, KTOTrainer):
    """`KTOTrainer` over rows of `prompt_ids`, `completion_ids`, `KL_completion_ids` and `label`."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        return dataset
