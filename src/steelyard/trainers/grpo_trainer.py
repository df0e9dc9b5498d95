"""TRL's trainer of group-relative policy optimization on the platform."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false

from collections.abc import Generator
from typing import Any

from torch.utils.data import Sampler
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from steelyard.trainers.platform_trainer import PlatformTrainer


class SteelyardGRPOTrainer(PlatformTrainer, GRPOTrainer):
    """`GRPOTrainer` whose order of prompts is the same after a stop as without one."""

    @property
    def trained_tokens(self) -> int:
        """Tokens of prompts and answers so far, over all ranks."""
        return int(self.state.num_input_tokens_seen)

    # The two classes above call the argument by different names.
    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        theirs: Any = super()._get_train_sampler(dataset)
        return _PassSampler(
            theirs.data_source,
            theirs.mini_repeat_count,
            theirs.batch_size,
            theirs.repeat_count,
            theirs.shuffle,
            theirs.seed,
        )


class _PassSampler(RepeatSampler):
    """Draws the order of each pass from seed and pass; TRL's goes on drawing, so that a process that resumes
    in the second pass would begin with the order of the first.
    """

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which pass is next. Called by accelerate."""
        self.epoch = epoch

    def __iter__(self) -> Generator[int]:
        self.generator.manual_seed((self.seed or 0) + self.epoch)
        yield from super().__iter__()
