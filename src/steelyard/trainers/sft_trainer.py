"""TRL's supervised trainer on the platform."""

from trl.trainer.sft_trainer import SFTTrainer

from steelyard.trainers.platform_trainer import PlatformTrainer


class SteelyardSFTTrainer(PlatformTrainer, SFTTrainer):
    """`SFTTrainer` whose checkpoints go through the runtime. The numerics are TRL's, untouched."""
