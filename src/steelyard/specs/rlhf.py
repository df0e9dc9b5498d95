"""The blocks of an RLHF job's stages."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from steelyard.specs.base import Name, Spec
from steelyard.specs.blocks import LimitsBlock
from steelyard.specs.methods import (
    ONLINE_METHODS,
    OnlineSettings,
    PolicyMethod,
    PreferenceSettings,
)

_FIELDS_OF = {
    "loss_type": {"dpo"},
    "desirable_weight": {"kto"},
    "undesirable_weight": {"kto"},
    "num_generations": {"grpo"},
    "max_completion_length": ONLINE_METHODS,
    "temperature": ONLINE_METHODS,
    "cliprange": ONLINE_METHODS,
    "ppo_epochs": {"ppo"},
    "vf_coef": {"ppo"},
    "gamma": {"ppo"},
    "gae_lambda": {"ppo"},
    "whiten_rewards": {"ppo"},
    "missing_eos_penalty": {"ppo"},
    "use_score_scaling": {"ppo"},
    "target_kl": {"ppo"},
}
"""Field of the policy -> the methods that it means something to."""


class RewardModelBlock(Spec):
    """The stage that learns a scorer from preference pairs."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 1.0e-5
    max_steps: Annotated[int, Field(ge=1)]
    min_accuracy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """Share of held-out pairs that it must order rightly; below this the policy stage does not start."""
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] | None = 0.95
    """`min_accuracy` must be kept by the exact one-sided lower limit of the accuracy at this confidence, so
    that luck with few pairs passes no reward model. Null: by the accuracy as it was measured."""
    model_name: Name | None = None
    """Where it is registered. Unset: the name of the policy's model and `-reward`."""
    limits: LimitsBlock | None = None
    """Bounds of this stage. Unset: the job's."""


class PolicyBlock(OnlineSettings, PreferenceSettings):
    """The stage that trains the policy."""

    method: PolicyMethod
    beta: Annotated[float, Field(ge=0.0, le=100.0)] = 0.1
    """Weight of the distance to the reference model."""
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    """Unset: `training.learning_rate`."""
    max_steps: Annotated[int, Field(ge=1)]
    limits: LimitsBlock | None = None
    """Bounds of this stage. Unset: the job's."""

    def misplaced(self) -> Iterable[str]:
        """Yield the fields that are set to something and mean nothing to the method."""
        for name, methods in _FIELDS_OF.items():
            if self.method not in methods and getattr(self, name) != type(self).model_fields[name].default:
                yield name


class SafetyBlock(Spec):
    """The check at the end; a policy that misses it is not registered."""

    min_pass_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Share of the cases of all safety probes that the policy must pass."""
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] | None = None
    """`min_pass_rate` must be kept by the one-sided confidence limit. Unset: by the share itself."""
    max_kl: Annotated[float, Field(gt=0.0)] | None = None
    """Greatest mean divergence from the reference, in nats per token."""
