"""What trainers of policies from preferences share: the reference, and what is measured at the end."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.context import Context
from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import LoraBlock
from steelyard.specs.methods import OnlineBlock
from steelyard.specs.states import Reason
from steelyard.trainers.course import leave_if_asked
from steelyard.trainers.divergence import measure_divergence
from steelyard.trainers.generation import sampling_for
from steelyard.trainers.model import load_model
from steelyard.trainers.orders import Orders
from steelyard.trainers.platform_trainer import PlatformTrainer
from steelyard.trainers.preference_figures import MOST_ROWS, implicit_rewards
from steelyard.trainers.preferences import Judged, Preferences
from steelyard.trainers.references import Reference

_ANSWER_TOKENS = 64
_HEAD = "lm_head"


def measure_policy(
    context: Context,
    orders: Orders,
    trainer: PlatformTrainer,
    preferences: Preferences,
    beta: float,
    figures: Callable[[Sequence[Judged], Sequence[tuple[float, ...]]], dict[str, float]],
) -> dict[str, float]:
    """Measure a finished policy on the held-out rows: its implicit rewards, and `policy/kl`.

    Without held-out rows `policy/kl` is of training prompts.

    Raises:
        Stopped: asked to leave meanwhile.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    reference = reference_of(trainer, orders)
    tokenizer: Any = trainer.processing_class
    heldout = preferences.heldout[:MOST_ROWS]
    measured: dict[str, float] = {}
    if heldout:
        rewards = implicit_rewards(
            policy, reference, heldout, beta, tokenizer.pad_token_id, lambda _: leave_if_asked(context)
        )
        measured |= figures(heldout, rewards)
    prompts = [row.prompt_ids for row in heldout or preferences.train]
    return measured | measure_kl(context, orders, policy, reference, tokenizer, prompts)


def reference_of(trainer: PlatformTrainer, orders: Orders) -> Reference:
    """Return the reference of a trainer of TRL: its own copy, the policy without its adapter, or the base."""
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    held: Any = trainer
    if held.ref_model is not None:
        return Reference(policy, trainer.accelerator.unwrap_model(held.ref_model))
    if orders.spec.peft is not None:
        return Reference(policy)
    base: Any = load_model(orders.model_path, orders.model)
    return Reference(policy, base.to(policy.device))


def measure_kl(
    context: Context,
    orders: Orders,
    policy: Any,
    reference: Reference,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
) -> dict[str, float]:
    """Measure `policy/kl` on prompts, with answers of 64 tokens at most.

    Raises:
        Stopped: asked to leave meanwhile.
    """
    longest = _ANSWER_TOKENS
    if orders.spec.online is not None:
        longest = min(longest, orders.spec.online.max_completion_length)
    return measure_divergence(
        policy,
        reference,
        prompts,
        sampling_for(tokenizer, longest, 1.0),
        seed=orders.spec.training.seed,
        on_batch=lambda _: leave_if_asked(context),
    )


def read_online(orders: Orders) -> OnlineBlock:
    """Return the settings of a method that learns from its own answers.

    Raises:
        RunFailure: the spec has none.
    """
    if orders.spec.online is None:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Method {orders.spec.method} needs an online block that names a reward_model.",
            param="online",
        )
    return orders.spec.online


def refuse_head_adapter(peft: LoraBlock | None) -> None:
    """Refuse an adapter on the output layer, which TRL's trainers of policies would pass by.

    Raises:
        RunFailure: there is one.
    """
    if peft is not None and _HEAD in peft.target_modules:
        raise bad_config(
            Reason.BAD_CONFIG,
            "peft.target_modules names lm_head, which this method can't train an adapter on: leave it out.",
            param="peft.target_modules",
        )
