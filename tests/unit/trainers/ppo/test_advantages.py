# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steelyard.trainers.ppo.advantages import estimate_advantages, token_rewards, whiten

_FLOATS = st.floats(-5.0, 5.0)


def test_the_score_is_on_the_last_token_and_the_penalty_on_each() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    ratios = torch.tensor([[0.5, -0.25, 9.0], [0.0, 1.0, 2.0]])
    rewards = token_rewards(torch.tensor([3.0, -1.0]), ratios, mask, beta=2.0)
    assert rewards.tolist() == [[-1.0, 3.5, 0.0], [0.0, -2.0, -5.0]]


@given(
    rewards=st.lists(_FLOATS, min_size=1, max_size=6),
    values=st.lists(_FLOATS, min_size=6, max_size=6),
    gamma=st.floats(0.5, 1.0),
    gae_lambda=st.floats(0.0, 1.0),
    padding=st.integers(0, 2),
)
def test_advantages_are_the_discounted_sum_of_the_errors(
    rewards: list[float], values: list[float], gamma: float, gae_lambda: float, padding: int
) -> None:
    """Schulman et al. 2016, equation 16, written out."""
    count = len(rewards)
    values = values[:count]
    errors = [
        reward + gamma * (values[place + 1] if place + 1 < count else 0.0) - values[place]
        for place, reward in enumerate(rewards)
    ]
    expected = [
        sum((gamma * gae_lambda) ** (later - place) * errors[later] for later in range(place, count))
        for place in range(count)
    ]
    mask = torch.tensor([[1.0] * count + [0.0] * padding], dtype=torch.float64)
    advantages, returns = estimate_advantages(
        torch.tensor([rewards + [0.0] * padding], dtype=torch.float64),
        torch.tensor([values + [7.0] * padding], dtype=torch.float64),
        mask,
        gamma,
        gae_lambda,
    )
    assert advantages[0].tolist() == pytest.approx(expected + [0.0] * padding, abs=1e-9)
    together = [advantage + value for advantage, value in zip(expected, values, strict=True)]
    assert returns[0].tolist() == pytest.approx(together + [0.0] * padding, abs=1e-9)


def test_with_lambda_one_returns_are_what_came() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    _, returns = estimate_advantages(rewards, torch.tensor([[5.0, -3.0, 0.5]]), torch.ones(1, 3), 1.0, 1.0)
    assert returns[0].tolist() == pytest.approx([7.0, 6.0, 4.0])


def test_whitened_values_have_a_mean_of_zero_and_a_variance_of_one_over_the_mask_alone() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    white = whiten(torch.tensor([[1.0, 2.0, 100.0], [6.0, 100.0, 100.0]]), mask)
    kept = white[mask.bool()]
    assert float(kept.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(kept.std()) == pytest.approx(1.0, abs=1e-6)
    assert white[~mask.bool()].tolist() == [0.0, 0.0, 0.0]
    shifted = whiten(torch.tensor([[1.0, 2.0, 0.0], [6.0, 0.0, 0.0]]), mask, keep_mean=True)
    assert float(shifted[mask.bool()].mean()) == pytest.approx(3.0)


def test_one_value_and_equal_values_stay_finite() -> None:
    assert whiten(torch.tensor([[2.0]]), torch.ones(1, 1)).tolist() == [[2.0]]
    assert all(
        math.isfinite(value) for value in whiten(torch.full((1, 4), 3.0), torch.ones(1, 4))[0].tolist()
    )
