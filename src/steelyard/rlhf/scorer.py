"""Whether a reward model is good enough to train a policy against."""

import math
from dataclasses import dataclass

from steelyard.kit.proportions import exact_lower_limit
from steelyard.specs.families import Child
from steelyard.specs.methods import REWARD_ACCURACY
from steelyard.specs.rlhf import RewardModelBlock

_MOST_PAIRS = 10_000_000


@dataclass(frozen=True)
class ScorerVerdict:
    """Whether it is, with the numbers in words; where it isn't, with what to do."""

    good: bool
    message: str


def judge_scorer(block: RewardModelBlock, child: Child) -> ScorerVerdict:
    """Hold a finished reward model's accuracy on held-out pairs against the stage's bound."""
    accuracy = child.metrics.get(REWARD_ACCURACY)
    pairs = round(child.metrics.get(f"{REWARD_ACCURACY}_n", 0))
    if accuracy is None or pairs < 1 or not math.isfinite(accuracy):
        return ScorerVerdict(
            False,
            "the reward model was not measured on held-out pairs: ingest the preferences with a validation "
            "split, and submit again",
        )
    right = round(accuracy * pairs)
    told = f"the reward model orders {right} of {pairs} held-out pairs rightly ({accuracy:.4g})"
    asked = f"reward_model.min_accuracy {block.min_accuracy:g}"
    if block.confidence is None:
        good = accuracy >= block.min_accuracy
        return ScorerVerdict(good, f"{told}, {'enough' if good else 'too few'} for {asked}" + _remedy(good))
    limit = exact_lower_limit(right, pairs, block.confidence)
    shown = f"{told}; at {block.confidence:g} confidence at least {limit:.4g}"
    if limit >= block.min_accuracy:
        return ScorerVerdict(True, f"{shown}, which keeps {asked}")
    if accuracy < block.min_accuracy:
        return ScorerVerdict(False, f"{shown}, which misses {asked}" + _remedy(False))
    needed = pairs_needed(accuracy, block.min_accuracy, block.confidence)
    more = f": about {needed} held-out pairs could, if the figure stays" if needed else ""
    return ScorerVerdict(False, f"{shown}, which does not show {asked}{more}" + _remedy(False))


def pairs_needed(accuracy: float, bound: float, confidence: float) -> int | None:
    """Return how many pairs show that an accuracy like this keeps a bound; None where none do.

    The first of a row of sizes, each a tenth more than the one before.
    """
    if accuracy <= bound and accuracy < 1.0:
        return None
    pairs = 1
    while pairs < _MOST_PAIRS:
        if exact_lower_limit(math.floor(accuracy * pairs + 1e-9), pairs, confidence) >= bound:
            return pairs
        pairs += max(1, pairs // 10)
    return None


def _remedy(good: bool) -> str:
    if good:
        return ""
    return (
        ". No policy is trained against it: submit again with more preferences, more reward_model.max_steps, "
        "or a bound that this model can keep"
    )
