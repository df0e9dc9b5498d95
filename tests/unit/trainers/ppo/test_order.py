from hypothesis import given
from hypothesis import strategies as st

from steelyard.trainers.ppo.order import PromptOrder


@given(count=st.integers(1, 12), per_step=st.integers(1, 12), seed=st.integers(0, 5))
def test_each_pass_has_each_prompt_once_and_an_order_of_its_own(count: int, per_step: int, seed: int) -> None:
    order = PromptOrder(count, per_step, seed)
    steps = -(-3 * count // per_step)
    drawn = [place for step in range(1, steps + 1) for place in order.of_step(step)]
    for number in range(3):
        assert sorted(drawn[number * count : (number + 1) * count]) == list(range(count))


def test_a_step_is_the_same_whoever_asks_first() -> None:
    whole, resumed = PromptOrder(40, 7, 3), PromptOrder(40, 7, 3)
    expected = [whole.of_step(step) for step in range(1, 20)]
    assert [resumed.of_step(step) for step in range(9, 20)] == expected[8:]
    assert PromptOrder(40, 7, 4).of_step(1) != expected[0]


def test_passes_are_counted_in_steps() -> None:
    assert PromptOrder(10, 4, 0).steps_of(1.0) == 3
    assert PromptOrder(10, 4, 0).steps_of(0.01) == 1
