"""What a policy that learned from a reward model is worth by it, on held-out prompts."""
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from steelyard.trainers.answering import answer_and_score
from steelyard.trainers.generation import Sampling
from steelyard.trainers.prompts import Prompt
from steelyard.trainers.references import Reference
from steelyard.trainers.reward_model import Scorer

MOST_PROMPTS = 64
_BATCH = 16


def measure_rewards(
    policy: Any,
    reference: Reference,
    scorer: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    seed: int,
    on_batch: Callable[[int], None],
) -> dict[str, float]:
    """Return the mean score of the policy's answers, `policy/reward`, and how much more that is than the
    reference's to the same prompts, `policy/reward_gain`; each with its standard error, and how many.

    Of a reward model's scores alone: what it likes is not what people like, so read `policy/kl` beside it.
    Equal models, prompts and seed give equal figures; torch's random numbers are as they were afterwards.
    """
    chosen = list(prompts)[:MOST_PROMPTS]

    def scores(model: Any) -> list[float]:
        found: list[float] = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for start in range(0, len(chosen), _BATCH):
                part = chosen[start : start + _BATCH]
                found += answer_and_score(model, part, sampling, tokenizer, scorer).scores
                on_batch(len(found))
        return found

    own = scores(policy)
    with reference.active() as model:
        before = scores(model)
    gains = [after - earlier for after, earlier in zip(own, before, strict=True)]
    return {
        "policy/reward": fmean(own),
        "policy/reward_stderr": _stderr(own),
        "policy/reward_n": float(len(own)),
        "policy/reward_gain": fmean(gains),
        "policy/reward_gain_stderr": _stderr(gains),
    }


def _stderr(values: Sequence[float]) -> float:
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
