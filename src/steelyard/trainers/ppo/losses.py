"""The clipped objective of policy and values. Pure functions of tensors.

Shapes: B answers, A tokens of the longest. `mask` is 1 on an answer's tokens. Sums are divided by the number
of tokens of the whole batch, so that the parts of a batch add up to it whatever their lengths.
"""
# ruff: noqa: N803, N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from torch import Tensor


def policy_loss(
    log_probs_BA: Tensor,
    old_log_probs_BA: Tensor,
    advantages_BA: Tensor,
    mask_BA: Tensor,
    cliprange: float,
    tokens: float,
) -> tuple[Tensor, float]:
    """Return the loss and the share of tokens, of the batch's, at which the ratio's clip decides.

    Schulman et al. 2017, equation 7: -min(r A, clip(r, 1 - e, 1 + e) A), r the ratio of new to old.
    """
    ratios_BA = torch.exp((log_probs_BA - old_log_probs_BA) * mask_BA)
    free_BA = -advantages_BA * ratios_BA
    clipped_BA = -advantages_BA * ratios_BA.clamp(1.0 - cliprange, 1.0 + cliprange)
    clips = ((clipped_BA > free_BA) * mask_BA).sum() / tokens
    return (torch.maximum(free_BA, clipped_BA) * mask_BA).sum() / tokens, float(clips)


def value_loss(
    values_BA: Tensor,
    old_values_BA: Tensor,
    returns_BA: Tensor,
    mask_BA: Tensor,
    cliprange: float,
    tokens: float,
) -> Tensor:
    """Return half the squared error of the values, which may move by `cliprange` from the old ones at most
    for it to fall (as the objective is clipped; Huang et al. 2024, detail on value clipping).
    """
    near_BA = torch.clamp(values_BA, old_values_BA - cliprange, old_values_BA + cliprange)
    errors_BA = torch.maximum((values_BA - returns_BA) ** 2, (near_BA - returns_BA) ** 2)
    return 0.5 * (errors_BA * mask_BA).sum() / tokens
