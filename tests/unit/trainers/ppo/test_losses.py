# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import math

import pytest
import torch

from steelyard.trainers.ppo.losses import policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.0, 2.0, -2.0, 0.0),
        (1.1, 2.0, -2.2, 0.0),
        (1.5, 2.0, -2.4, 1.0),  # a good token counts no more than 1 + cliprange
        (0.5, 2.0, -1.0, 0.0),  # and one that became rarer is not protected
        (0.5, -2.0, 1.6, 1.0),  # a bad token counts no less than 1 - cliprange
        (1.5, -2.0, 3.0, 0.0),
    ],
)
def test_the_objective_is_clipped_on_the_side_that_would_go_too_far(
    ratio: float, advantage: float, expected: float, clipped: float
) -> None:
    new = torch.tensor([[math.log(ratio)]])
    loss, clips = policy_loss(new, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1), 0.2, 1.0)
    assert float(loss) == pytest.approx(expected)
    assert clips == clipped


def test_parts_of_a_batch_add_up_to_it_whatever_their_lengths() -> None:
    generator = torch.Generator().manual_seed(3)
    new, old, advantages, values, returns = (torch.randn(4, 5, generator=generator) for _ in range(5))
    mask = torch.tensor([[1.0] * length + [0.0] * (5 - length) for length in (5, 1, 3, 2)])
    tokens = float(mask.sum())

    def both(rows: slice) -> tuple[float, float, float]:
        of_policy, clips = policy_loss(new[rows], old[rows], advantages[rows], mask[rows], 0.2, tokens)
        of_values = value_loss(values[rows], old[rows], returns[rows], mask[rows], 0.2, tokens)
        return float(of_policy), clips, float(of_values)

    parts = [both(slice(0, 1)), both(slice(1, 4))]
    assert [sum(each) for each in zip(*parts, strict=True)] == pytest.approx(both(slice(0, 4)), abs=1e-6)


def test_nothing_outside_of_the_mask_counts() -> None:
    mask = torch.tensor([[1.0, 0.0]])
    new = torch.tensor([[0.0, 50.0]], requires_grad=True)
    loss, _ = policy_loss(new, torch.zeros(1, 2), torch.ones(1, 2), mask, 0.2, 1.0)
    loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == [[-1.0, 0.0]]


def test_values_gain_nothing_by_moving_further_than_the_clip() -> None:
    values = torch.tensor([[1.0]], requires_grad=True)
    loss = value_loss(values, torch.zeros(1, 1), torch.tensor([[1.0]]), torch.ones(1, 1), 0.2, 1.0)
    assert float(loss.detach()) == pytest.approx(0.5 * 0.8**2)
    loss.backward()
    assert values.grad is not None
    assert float(values.grad) == 0.0
