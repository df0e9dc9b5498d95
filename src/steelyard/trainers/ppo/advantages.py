"""From scores to advantages. Pure functions of tensors.

Shapes: B answers, A tokens of the longest. `mask` is 1 on an answer's tokens.
"""
# ruff: noqa: N803, N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from torch import Tensor

_TINY = 1e-8


def token_rewards(scores_B: Tensor, log_ratios_BA: Tensor, mask_BA: Tensor, beta: float) -> Tensor:
    """Return (B, A) rewards: -beta log(p/q) on each token, and the score on an answer's last one.

    Ziegler et al. 2019, equation 2, as in Stiennon et al. 2020. `log_ratios` are of policy to reference.
    """
    rewards_BA = -beta * log_ratios_BA * mask_BA
    last_B = mask_BA.long().sum(dim=1) - 1
    rows_B = torch.arange(len(last_B), device=last_B.device)
    rewards_BA[rows_B, last_B] += scores_B
    return rewards_BA


def estimate_advantages(
    rewards_BA: Tensor, values_BA: Tensor, mask_BA: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, both (B, A), 0 outside of the mask.

    Schulman et al. 2016, equations 11 and 16: delta_t = r_t + gamma V_(t+1) - V_t, and
    A_t = delta_t + gamma lambda A_(t+1); nothing comes after an answer's end. Returns are A + V.
    """
    values_BA = values_BA * mask_BA
    advantages_BA = torch.zeros_like(rewards_BA)
    following_B = next_value_B = torch.zeros_like(rewards_BA[:, 0])
    for place in reversed(range(rewards_BA.shape[1])):
        delta_B = rewards_BA[:, place] + gamma * next_value_B - values_BA[:, place]
        following_B = (delta_B + gamma * gae_lambda * following_B) * mask_BA[:, place]
        advantages_BA[:, place] = following_B
        next_value_B = values_BA[:, place]
    return advantages_BA, (advantages_BA + values_BA) * mask_BA


def whiten(values_BA: Tensor, mask_BA: Tensor, *, keep_mean: bool = False) -> Tensor:
    """Bring the masked values to a variance of one, and to a mean of zero unless it is kept.

    One value alone has no variance: it is returned as it is.
    """
    count = mask_BA.sum()
    if count < 2:
        return values_BA * mask_BA
    mean = (values_BA * mask_BA).sum() / count
    variance = (((values_BA - mean) ** 2) * mask_BA).sum() / (count - 1)
    whitened_BA = (values_BA - mean) * torch.rsqrt(variance + _TINY)
    return (whitened_BA + mean if keep_mean else whitened_BA) * mask_BA
