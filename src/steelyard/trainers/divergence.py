"""How far a policy has gone from its reference: `policy/kl`, in nats per token.

The estimator: the policy answers held-out prompts at temperature 1; at each token of an answer the
divergence of the two distributions of the next token is summed over the whole vocabulary,
sum p (log p - log q). The mean over all tokens of all answers is the figure. It has no sampling noise but
that of the texts, and is never below zero. Amini, Vieira and Cotterell 2025, "Better Estimation of the
Kullback-Leibler Divergence Between Language Models", call it Rao-Blackwellized; here it is per token.
"""
# ruff: noqa: N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import kl_div

from steelyard.specs.gates import POLICY_KL
from steelyard.trainers.generation import Answers, Sampling, answer_logits, sample_answers
from steelyard.trainers.references import Reference
from steelyard.trainers.scoring import Scored, mean_loss

MOST_PROMPTS = 64
_BATCH = 16


def measure_divergence(
    policy: Any,
    reference: Reference,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    on_batch: Callable[[int], None],
) -> dict[str, float]:
    """Return `policy/kl`, its standard error over prompts, and the number of prompts: 64 at most.

    Equal models, prompts and seed give equal figures; torch's random numbers are as they were afterwards.
    `on_batch` is called after each batch and may raise.
    """
    distinct = [list(prompt) for prompt in dict.fromkeys(tuple(prompt) for prompt in prompts)][:MOST_PROMPTS]
    sums: list[Scored] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(distinct), _BATCH):
            answers = sample_answers(policy, distinct[start : start + _BATCH], sampling)
            sums += _divergences(policy, reference, answers)
            on_batch(len(sums))
    estimate = mean_loss(sums)
    return {
        POLICY_KL: estimate.value,
        f"{POLICY_KL}_stderr": estimate.stderr,
        f"{POLICY_KL}_n": float(len(sums)),
    }


@torch.no_grad()
def _divergences(policy: Any, reference: Reference, answers: Answers) -> list[Scored]:
    """Return each answer's divergence, summed over its tokens; as a likelihood, so with its sign turned."""
    was_training = policy.training
    policy.eval()
    own_BAV = answer_logits(policy, answers).log_softmax(dim=2)
    policy.train(was_training)
    with reference.active() as model:
        other_BAV = answer_logits(model, answers).log_softmax(dim=2)
    kl_BA = kl_div(other_BAV, own_BAV, reduction="none", log_target=True).sum(dim=2)
    totals = (kl_BA * answers.answer_mask).sum(dim=1).tolist()
    counts = answers.answer_mask.sum(dim=1).tolist()
    return [Scored(-float(total), int(count)) for total, count in zip(totals, counts, strict=True)]
