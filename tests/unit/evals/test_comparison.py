"""Two models side by side: who is better, by which test, and what could have been found."""

import numpy as np
import pytest

from steelyard.evals.comparing import Pairs
from steelyard.evals.comparison import compare_metric
from steelyard.evals.evidence import MetricEvidence, SamplesReference
from steelyard.evals.statistics import mcnemar


def _evidence(mean: float, **changes: object) -> MetricEvidence:
    values: dict[str, object] = {
        "metric": "quiz/acc",
        "mean": mean,
        "standard_error": 0.05,
        "n": 100,
        "interval": (mean - 0.1, mean + 0.1),
        "higher_is_better": True,
        "suite_digest": "s",
        "settings_digest": "t",
        "samples_digest": "x",
        "samples": SamplesReference(digest="x", column="value.acc"),
        "proportion": True,
    }
    return MetricEvidence.model_validate(values | changes)


def _pairs(a: list[float], b: list[float]) -> Pairs:
    return Pairs(model=np.array(b), incumbent=np.array(a))


def test_shares_are_compared_by_mcnemar() -> None:
    a = [1.0] * 40 + [0.0] * 60
    b = [1.0] * 70 + [0.0] * 30
    found = compare_metric("quiz/acc", _evidence(0.4), _evidence(0.7), _pairs(a, b))
    assert found.p_value == mcnemar(0, 30).p_value
    assert (found.verdict, found.n, found.test) == ("better", 100, "mcnemar")
    assert found.difference == pytest.approx(0.3)


def test_less_is_better_for_a_loss() -> None:
    draw = np.random.default_rng(0)
    a = list(draw.normal(2.0, 0.1, 80))
    b = [value + 0.5 for value in a]
    worse = {"higher_is_better": False, "proportion": False}
    found = compare_metric("heldout/loss", _evidence(2.0, **worse), _evidence(2.5, **worse), _pairs(a, b))
    assert (found.verdict, found.test) == ("worse", "paired bootstrap")


def test_equal_models_show_no_difference() -> None:
    same = [1.0, 0.0] * 50
    found = compare_metric("quiz/acc", _evidence(0.5), _evidence(0.5), _pairs(same, same))
    assert found.verdict == "no difference shown"
    assert found.p_value == 1.0


def test_shares_that_agree_on_every_sample_are_not_sure_to_agree_on_all() -> None:
    same = [1.0] * 16
    found = compare_metric("quiz/acc", _evidence(1.0, n=16), _evidence(1.0, n=16), _pairs(same, same))
    assert found.interval is not None
    assert found.interval[0] == -found.interval[1]
    assert 0.15 < found.interval[1] < 0.25
    assert 0.1 < (found.smallest_effect or 0.0) < 0.3
    more = compare_metric("quiz/acc", _evidence(1.0), _evidence(1.0), _pairs([1.0] * 400, [1.0] * 400))
    assert more.interval is not None
    assert more.interval[1] < 0.01


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite_digest": "other"}, "content"),
        ({"settings_digest": "other"}, "settings"),
        ({"samples": None}, "single sample"),
    ],
)
def test_what_is_not_the_same_measurement_is_not_compared(changes: dict[str, object], words: str) -> None:
    pairs = _pairs([1.0, 0.0], [1.0, 0.0])
    found = compare_metric("quiz/acc", _evidence(0.5), _evidence(0.5, **changes), pairs)
    assert found.verdict == "not comparable"
    assert words in found.message


def test_one_alone_is_not_compared() -> None:
    found = compare_metric("quiz/acc", None, _evidence(0.5), None)
    assert (found.verdict, found.a, found.b) == ("not comparable", None, 0.5)
