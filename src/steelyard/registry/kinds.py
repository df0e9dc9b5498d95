"""What a registered version does: it writes texts, or it scores them. Pure."""

from collections.abc import Mapping

from steelyard.specs.methods import REWARD_METHOD
from steelyard.specs.models import ModelKind

METHOD_KEY = "method"
"""Entry of a lineage: the method that made the model, where it is another than imitation or a script."""


def kind_of(lineage: Mapping[str, str]) -> ModelKind:
    """Return what the version of a lineage does."""
    return "reward_model" if lineage.get(METHOD_KEY) == REWARD_METHOD else "model"


def refuse_alias(name: str, version: int, lineage: Mapping[str, str]) -> str | None:
    """Return why no alias may point to a version, or None. What an alias points to is served, and answers."""
    if kind_of(lineage) != "reward_model":
        return None
    return (
        f"{name}@{version} is a reward model: it scores texts and writes none, so it is never served; "
        "name it in online.reward_model of a ppo or grpo job"
    )
