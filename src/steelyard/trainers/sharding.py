"""Proof that FSDP shards. accelerate falls back to DDP without a word on devices it doesn't know."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from steelyard.runtime.failures import FAILURE_EXIT, RunFailure
from steelyard.specs.states import Reason


def assert_sharded(model: nn.Module) -> None:
    """Check that `model` went through `fully_shard` and holds its weights as shards.

    Raises:
        RunFailure: it is whole on every rank.
    """
    if isinstance(model, FSDPModule) and all(isinstance(each, DTensor) for each in model.parameters()):
        return
    raise RunFailure(
        Reason.TRAINER_FAILED,
        FAILURE_EXIT,
        f"distributed.strategy is fsdp, but the model was wrapped as {type(model).__name__} and is whole on "
        "every rank: use strategy ddp here, or GPUs.",
        param="distributed.strategy",
    )


def require_sharded() -> TrainerCallback:
    """Make a callback that checks the wrapped model before the first step."""
    return _RequireSharded()


class _RequireSharded(TrainerCallback):
    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        assert_sharded(model)
