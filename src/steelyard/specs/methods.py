"""Methods of fine-tuning: the data that each learns from, its own settings, and what else it measures."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from steelyard.specs.base import Spec
from steelyard.specs.blocks import DatasetFormat

Method = Literal["sft", "reward", "dpo", "kto", "ppo", "grpo", "script"]
"""`sft`: imitate. `reward`: learn a scorer from pairs. `dpo`, `kto`: learn from preferences as they stand.
`ppo`, `grpo`: answer prompts, and learn from a reward model's scores. `script`: one's own trainer."""
PolicyMethod = Literal["dpo", "kto", "ppo", "grpo"]

REWARD_METHOD = "reward"
PREFERENCE_METHODS = frozenset({"dpo", "kto"})
ONLINE_METHODS = frozenset({"ppo", "grpo"})
_WITH_PROMPTS: tuple[DatasetFormat, ...] = ("preference", "prompt_completion", "messages")
METHOD_FORMATS: Mapping[str, tuple[DatasetFormat, ...]] = {
    "sft": ("messages", "prompt_completion", "text"),
    "reward": ("preference",),
    "dpo": ("preference",),
    "kto": ("unpaired_preference",),
    "ppo": _WITH_PROMPTS,
    "grpo": _WITH_PROMPTS,
}
"""Shapes of rows that a method learns from; a script takes any. `ppo` and `grpo` use the prompts alone: of
conversations all but the last answer."""
TEXT_FORMATS: tuple[DatasetFormat, ...] = METHOD_FORMATS["sft"]
"""Shapes that the suites `heldout` and `choices` can be made from."""
REWARD_ACCURACY = "reward/accuracy"
"""Share of held-out pairs whose chosen answer a reward model scores higher; `reward/accuracy_n`: pairs."""

_REGISTERED_MODEL = r"^models/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?@[1-9][0-9]{0,8}$"


class PreferenceSettings(Spec):
    """What dpo and kto can be told beside `beta`."""

    loss_type: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """Loss over a pair (dpo)."""
    desirable_weight: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    """Weight of examples that are wanted (kto)."""
    undesirable_weight: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    """Weight of examples that are not (kto)."""


class PreferenceBlock(PreferenceSettings):
    """Learning from preferences as they stand; for methods dpo and kto. Names are TRL's."""

    beta: Annotated[float, Field(gt=0.0, le=100.0)] = 0.1
    """Weight of the distance to the reference model."""


class OnlineSettings(Spec):
    """What ppo and grpo can be told beside `beta` and the reward model."""

    num_generations: Annotated[int, Field(ge=2, le=256)] = 4
    """Answers sampled per prompt (grpo)."""
    max_completion_length: Annotated[int, Field(ge=1, le=32768)] = 128
    """Tokens of an answer at most."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """Of sampling."""
    ppo_epochs: Annotated[int, Field(ge=1, le=64)] = 4
    """Passes over each batch of answers (ppo)."""
    cliprange: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """How far a token's probability ratio counts: between 1 - cliprange and 1 + cliprange."""
    vf_coef: Annotated[float, Field(ge=0.0, le=100.0)] = 0.1
    """Weight of the value head's loss (ppo)."""
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Discount of rewards, per token (ppo)."""
    gae_lambda: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Between one-step (0) and whole-answer (1) advantages (ppo)."""
    whiten_rewards: bool = False
    """Bring the rewards of a batch to a variance of one (ppo)."""
    missing_eos_penalty: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """Taken off the score of an answer that doesn't come to its end within `max_completion_length` (ppo)."""
    use_score_scaling: bool = False
    """Divide scores by their standard deviation over all answers so far (ppo)."""
    target_kl: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Divergence from the reference of a whole answer, in nats, that `beta` is steered towards step by step
    (ppo). Unset: `beta` stays as it is."""


class OnlineBlock(OnlineSettings):
    """Learning from a reward model's scores of one's own answers; for methods ppo and grpo."""

    reward_model: Annotated[str, Field(pattern=_REGISTERED_MODEL)]
    """A reward model of the project, as `models/NAME@VERSION`."""
    beta: Annotated[float, Field(ge=0.0, le=100.0)] = 0.1
    """Weight of the divergence from the reference model."""
