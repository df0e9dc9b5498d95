"""The stopping rules over all kinds of curves."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from steelyard.hpo.stopping import asha_stops, median_stops, stops
from steelyard.hpo.trials import Curve
from steelyard.specs.search import PruningBlock

ASHA = PruningBlock(type="asha", min_steps=3, reduction_factor=3)
MEDIAN = PruningBlock(type="median", min_steps=2, interval_steps=2, min_trials=3)

LOSSES = st.floats(0.0, 10.0) | st.just(math.nan)
CURVES = st.dictionaries(
    st.integers(0, 30),
    st.lists(LOSSES, max_size=40).map(lambda losses: tuple(enumerate(losses, start=1))),
    max_size=20,
)


def flat(loss: float, steps: int) -> Curve:
    return tuple((step, loss) for step in range(1, steps + 1))


class TestAsha:
    def test_the_best_third_of_a_rung_goes_on(self) -> None:
        curves = {number: flat(float(number), 3) for number in range(6)}

        assert set(asha_stops(ASHA, curves, list(curves))) == {2, 3, 4, 5}

    def test_a_rung_says_nothing_before_it_has_a_third_to_speak_of(self) -> None:
        curves = {0: flat(9.0, 3), 1: flat(1.0, 3)}

        assert asha_stops(ASHA, curves, [0, 1]) == {}

    def test_a_trial_is_judged_at_its_highest_rung_alone(self) -> None:
        curves = {number: flat(float(number), 3) for number in range(6)}
        curves[9] = (*flat(8.0, 3), (9, 0.1))

        assert 9 not in asha_stops(ASHA, curves, [9])

    def test_a_leader_is_judged_again_when_better_ones_have_come_as_far(self) -> None:
        alone = {0: flat(5.0, 3), 1: flat(6.0, 3), 2: flat(7.0, 3)}
        assert set(asha_stops(ASHA, alone, [0, 1, 2])) == {1, 2}

        later = alone | {number: flat(1.0, 3) for number in range(3, 6)}

        assert 0 in asha_stops(ASHA, later, [0])

    def test_a_step_that_has_no_point_is_judged_by_the_next(self) -> None:
        curves: dict[int, Curve] = {number: ((4, float(number)),) for number in range(3)}

        assert set(asha_stops(ASHA, curves, [0, 1, 2])) == {1, 2}

    def test_the_words_name_the_numbers(self) -> None:
        curves = {number: flat(float(number), 3) for number in range(3)}

        assert asha_stops(ASHA, curves, [2]) == {
            2: "2 at step 3 is not among the best 1 of the 3 trials that got as far (bound 0)"
        }

    @given(curves=CURVES)
    def test_the_best_of_a_rung_never_stops(self, curves: dict[int, Curve]) -> None:
        stopped = asha_stops(ASHA, curves, list(curves))
        for rung in (3, 9, 27):
            found = {
                number: next((_worst(loss) for step, loss in curve if step >= rung), None)
                for number, curve in curves.items()
            }
            reached = {number: loss for number, loss in found.items() if loss is not None}
            at_rung = {number: loss for number, loss in reached.items() if curves[number][-1][0] < 3 * rung}
            for number, loss in at_rung.items():
                if loss == min(reached.values()):
                    assert number not in stopped

    @given(curves=CURVES)
    def test_at_least_a_third_of_those_that_reached_a_rung_first_goes_on(
        self, curves: dict[int, Curve]
    ) -> None:
        only_first = {number: curve[:8] for number, curve in curves.items() if curve and curve[-1][0] >= 3}

        stopped = asha_stops(ASHA, only_first, list(only_first))

        assert len(only_first) - len(stopped) >= len(only_first) // 3


class TestMedian:
    def test_whose_best_is_behind_the_median_of_the_averages_stops(self) -> None:
        curves = {number: flat(float(number), 4) for number in range(1, 6)}

        assert set(median_stops(MEDIAN, curves, list(curves))) == {4, 5}

    def test_nothing_is_judged_before_enough_others_have_got_as_far(self) -> None:
        curves = {0: flat(9.0, 4), 1: flat(1.0, 4), 2: flat(1.0, 4), 3: flat(1.0, 3)}

        assert median_stops(MEDIAN, curves, [0]) == {}
        assert set(median_stops(MEDIAN, curves | {3: flat(1.0, 4)}, [0])) == {0}

    def test_a_bad_start_is_forgiven_to_who_has_been_good_once(self) -> None:
        curves = {number: flat(2.0, 4) for number in range(4)}
        curves[9] = ((1, 9.0), (2, 1.0), (3, 9.0), (4, 9.0))

        assert median_stops(MEDIAN, curves, [9]) == {}

    def test_only_what_came_up_to_the_judged_step_counts(self) -> None:
        curves = {number: flat(2.0, 3) for number in range(4)}
        curves[9] = ((1, 3.0), (2, 3.0), (3, 0.5))

        assert set(median_stops(MEDIAN, curves, [9])) == {9}

    @given(curves=CURVES)
    def test_the_best_never_stops(self, curves: dict[int, Curve]) -> None:
        lowest = {
            n: min((_worst(loss) for _, loss in curve), default=math.inf) for n, curve in curves.items()
        }
        same_length = {number: curve for number, curve in curves.items() if len(curve) >= 4}
        cut = {number: curve[:4] for number, curve in same_length.items()}

        stopped = median_stops(MEDIAN, cut, list(cut))

        bests = {number: min(_worst(loss) for _, loss in curve) for number, curve in cut.items()}
        assert not [number for number in stopped if bests[number] == min(bests.values())]
        assert set(stopped) <= set(lowest)


@given(curves=CURVES, seed=st.integers(0, 99))
def test_the_order_in_which_trials_come_does_not_matter(curves: dict[int, Curve], seed: int) -> None:
    items = list(curves.items())
    random.Random(seed).shuffle(items)

    for rule in (ASHA, MEDIAN):
        assert stops(rule, dict(items), [number for number, _ in items]) == stops(rule, curves, list(curves))


def test_what_is_no_number_is_worse_than_any() -> None:
    curves = {0: flat(1e9, 3), 1: flat(2.0, 3), 2: flat(math.nan, 3)}

    assert set(asha_stops(ASHA, curves, [0, 1, 2])) == {0, 2}


def test_without_pruning_nothing_stops() -> None:
    assert stops(PruningBlock(), {0: flat(1.0, 9), 1: flat(2.0, 9)}, [0, 1]) == {}


def _worst(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def test_losses_whose_sum_is_beyond_all_numbers_have_an_average() -> None:
    curves = {number: flat(1.7e308, 4) for number in range(4)} | {4: flat(math.inf, 4), 5: flat(1.0, 4)}

    assert set(median_stops(MEDIAN, curves, list(curves))) == {4}
