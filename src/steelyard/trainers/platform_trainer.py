"""What TRL's trainers get from us: our checkpoints, our way to stop, no training on what is no number."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportMissingTypeArgument=false

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from steelyard.runtime.context import Context

_KEPT_LOG_ENTRIES = 200
_STATE_NAME = "trainer_state.json"
_PICKLED_ARGUMENTS = "training_args.bin"


class PlatformTrainer(Trainer):
    """Put before a trainer of TRL: `class Ours(PlatformTrainer, DPOTrainer)`. The numerics stay TRL's.

    Checkpoints go through the runtime; `callbacks.StepEnd` decides at each step's end what all ranks do.
    """

    def __init__(self, *, context: Context, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.context = context
        self.unhealthy_step = False

    @property
    def trained_tokens(self) -> int:
        """Tokens seen by all ranks since this process began, padding not counted."""
        counted: Any = self
        return int(counted._total_train_tokens)

    def write_state(self, folder: Path) -> None:
        """Fill `folder` with all that resuming needs. All ranks call it together."""
        self.state.log_history = self.state.log_history[-_KEPT_LOG_ENTRIES:]
        self.save_model(str(folder), _internal_call=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        if self.args.should_save:
            self.state.save_to_json(str(folder / _STATE_NAME))
            # A pickle that nothing reads: nobody should be tempted to load it.
            (folder / _PICKLED_ARGUMENTS).unlink(missing_ok=True)

    def write_model(self, folder: Path) -> None:
        """Fill `folder` with the model and its tokenizer. All ranks call it together."""
        self.save_model(str(folder), _internal_call=True)
        if self.args.should_save:
            (folder / _PICKLED_ARGUMENTS).unlink(missing_ok=True)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Note a loss that is not finite; the callback at the step's end agrees over ranks what to do."""
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(loss.item()):
            self.unhealthy_step = True
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and not math.isfinite(float(norm)):
            self.unhealthy_step = True
        return norm

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.store_flos()
        self.context.enter("saving", self.state.max_steps)
        self.context.checkpoint.save(self.state.global_step, self.write_state)
        self.context.enter("training", self.state.max_steps)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The loop behind this takes a step before it looks whether there is one to take.
        if self.state.global_step >= self.state.max_steps or self.context.preempt.agree().stop:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)
