import json
import math
import random
from statistics import stdev

import pytest

from steelyard.trainers.ppo.controls import BetaControl, Controls, ScoreScale


def test_beta_rises_where_the_policy_went_too_far_and_falls_where_it_may_go_further() -> None:
    far, near, met = (BetaControl(0.1, 5.0) for _ in range(3))
    far.update(50.0)
    near.update(0.0)
    met.update(5.0)
    assert far.beta == pytest.approx(0.102)
    assert near.beta == pytest.approx(0.098)
    assert met.beta == 0.1


def test_beta_stays_without_a_target_and_over_what_is_no_number() -> None:
    free, steered = BetaControl(0.1, None), BetaControl(0.1, 5.0)
    free.update(50.0)
    steered.update(math.nan)
    assert (free.beta, steered.beta) == (0.1, 0.1)


def test_scores_are_scaled_by_the_deviation_of_all_so_far() -> None:
    chance = random.Random(1)
    batches = [[chance.gauss(4.0, 3.0) for _ in range(size)] for size in (5, 1, 9)]
    scale = ScoreScale(enabled=True)
    for number, batch in enumerate(batches, start=1):
        scaled = scale.scale(batch)
        so_far = [score for each in batches[:number] for score in each]
        assert scaled == pytest.approx([score / stdev(so_far) for score in batch])


def test_scores_stay_where_nothing_is_scaled_or_nothing_is_known() -> None:
    assert ScoreScale(enabled=False).scale([1.0, 2.0]) == [1.0, 2.0]
    assert ScoreScale(enabled=True).scale([3.0]) == [3.0]


def test_equal_scores_do_not_explode() -> None:
    assert all(math.isfinite(score) for score in ScoreScale(enabled=True).scale([2.0] * 4))


def test_what_is_saved_is_exact() -> None:
    controls = Controls(BetaControl(0.1, 3.0), ScoreScale(enabled=True))
    controls.scale.scale([0.1, 0.7, 1.0 / 3.0])
    controls.beta.update(1.0 / 7.0)
    assert Controls.from_json(json.loads(json.dumps(controls.as_json()))) == controls
