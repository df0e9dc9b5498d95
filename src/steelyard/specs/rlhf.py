"""The blocks of an RLHF job's stages."""

from typing import Annotated, Literal

from pydantic import Field

from steelyard.specs.base import Spec


class RewardModelBlock(Spec):
    """The stage that learns a scorer from preference pairs."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 1.0e-5
    max_steps: Annotated[int, Field(ge=1)]
    min_accuracy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """On held-out pairs; below this the policy stage does not start."""


class PolicyBlock(Spec):
    """The stage that trains the policy."""

    method: Literal["dpo", "kto", "ppo", "grpo"]
    beta: Annotated[float, Field(ge=0.0)] = 0.1
    """Weight of the distance to the reference model."""
    max_steps: Annotated[int, Field(ge=1)]
    num_generations: Annotated[int, Field(ge=2)] = 4
    """Answers sampled per prompt (grpo)."""
    max_completion_length: Annotated[int, Field(ge=1)] = 128


class SafetyBlock(Spec):
    """The check at the end; a policy that misses it is not registered."""

    min_pass_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    max_kl: Annotated[float, Field(gt=0.0)] | None = None
    """Greatest mean divergence from the reference, in nats per token."""
