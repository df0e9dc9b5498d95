"""TRL's reward trainer on the platform."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

from peft import PeftModel
from trl.trainer.reward_trainer import RewardTrainer

from steelyard.trainers.platform_trainer import PlatformTrainer


class SteelyardRewardTrainer(PlatformTrainer, RewardTrainer):
    """`RewardTrainer` whose model is one whole classifier, an adapter merged into it."""

    def write_model(self, folder: Path) -> None:
        """Fill `folder` with the model and its tokenizer. All ranks call it together, once, at the end."""
        model: Any = self.accelerator.unwrap_model(self.model)
        if not isinstance(model, PeftModel):
            super().write_model(folder)
            return
        if self.args.should_save:
            merged: Any = model.merge_and_unload()
            merged.save_pretrained(folder)
            tokenizer: Any = self.processing_class
            tokenizer.save_pretrained(folder)
