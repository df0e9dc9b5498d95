"""What a policy makes of held-out preferences, by its implicit reward.

The implicit reward of an answer is beta (log p(answer) - log q(answer)), of policy p and reference q
(Rafailov et al. 2023, equation 5; the same in KTO, Ethayarajh et al. 2024, equation 8).
"""

from collections.abc import Callable, Sequence
from math import exp, log1p
from statistics import fmean
from typing import Any

from steelyard.trainers.preferences import Judged
from steelyard.trainers.references import Reference
from steelyard.trainers.scoring import Sample, score
from steelyard.trainers.tokenizing import NO_LOSS

MOST_ROWS = 2048


def implicit_rewards(
    policy: Any,
    reference: Reference,
    rows: Sequence[Judged],
    beta: float,
    pad_token_id: int,
    on_batch: Callable[[int], None],
) -> list[tuple[float, ...]]:
    """Return the reward of each answer of each row."""
    samples = [_sample(row.prompt_ids, answer) for row in rows for answer in row.answers]
    was_training = policy.training
    policy.eval()
    own = score(policy, samples, pad_token_id, on_batch)
    policy.train(was_training)
    with reference.active() as model:
        other = score(model, samples, pad_token_id, on_batch)
    rewards = [
        beta * (mine.log_likelihood - its.log_likelihood) for mine, its in zip(own, other, strict=True)
    ]
    width = len(rows[0].answers)
    return [tuple(rewards[start : start + width]) for start in range(0, len(rewards), width)]


def pair_figures(rewards: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Return figures of (chosen, rejected): the share ordered rightly, the mean margin, DPO's loss.

    A tie is not right, as where policy and reference are the same.
    """
    margins = [chosen - rejected for chosen, rejected in rewards]
    return {
        "rewards/accuracies": fmean(margin > 0 for margin in margins),
        "rewards/accuracies_n": float(len(margins)),
        "rewards/margins": fmean(margins),
        "rewards/loss": fmean(_softplus(-margin) for margin in margins),
    }


def unpaired_figures(rows: Sequence[Judged], rewards: Sequence[tuple[float, ...]]) -> dict[str, float]:
    """Return figures of single answers: how often a wanted one has the higher reward, over all pairs of a
    wanted and an unwanted one (Mann and Whitney's U; a tie counts half), and the margin of their means.

    Empty where one of the two kinds is missing.
    """
    wanted = [reward for row, (reward,) in zip(rows, rewards, strict=True) if row.wanted]
    unwanted = [reward for row, (reward,) in zip(rows, rewards, strict=True) if not row.wanted]
    if not wanted or not unwanted:
        return {}
    won = sum((good > bad) + 0.5 * (good == bad) for good in wanted for bad in unwanted)
    return {
        "rewards/accuracies": won / (len(wanted) * len(unwanted)),
        "rewards/accuracies_n": float(len(rows)),
        "rewards/margins": fmean(wanted) - fmean(unwanted),
    }


def _sample(prompt_ids: list[int], answer: list[int]) -> Sample:
    return Sample((*prompt_ids, *answer), (*[NO_LOSS] * len(prompt_ids), *answer))


def _softplus(value: float) -> float:
    return max(value, 0.0) + log1p(exp(-abs(value)))
