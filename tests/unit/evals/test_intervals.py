"""Figures get the interval that fits their kind."""

import math

import pytest

from steelyard.evals.intervals import results_of
from steelyard.evals.statistics import t_interval, wilson_interval
from steelyard.specs.evaluations import Figure


def test_a_share_gets_wilson_s() -> None:
    figure = Figure(
        name="acc", value=0.25, standard_error=0.07, n=40, higher_is_better=True, proportion=True,
        column="value.acc",
    )  # fmt: skip
    (result,) = results_of([figure], {"value.acc": [1.0] * 10 + [0.0] * 30})
    assert result.interval == wilson_interval(10, 40)
    assert result.method == "wilson"


def test_a_mean_gets_students() -> None:
    figure = Figure(
        name="score", value=2.0, standard_error=0.5, n=9, higher_is_better=True, column="value.score"
    )
    (result,) = results_of([figure], {"value.score": [2.0] * 9})
    assert result.interval == t_interval(2.0, 0.5, 9)


def test_a_perplexity_gets_the_exponential_of_its_loss() -> None:
    values = [0.5 + 0.01 * place for place in range(30)]
    loss = Figure(
        name="loss", value=0.6, standard_error=0.02, n=30, higher_is_better=False,
        column="value.loss", weight_column="weight.loss",
    )  # fmt: skip
    perplexity = Figure(
        name="perplexity", value=math.exp(0.6), standard_error=0.04, n=30, higher_is_better=False, of="loss"
    )
    found = results_of([loss, perplexity], {"value.loss": values, "weight.loss": [3.0] * 30})
    assert found[0].method == found[1].method == "bootstrap"
    assert found[1].interval == pytest.approx([math.exp(end) for end in found[0].interval])


def test_what_the_engine_alone_can_sum_up_gets_its_error() -> None:
    figure = Figure(name="f1", value=0.5, standard_error=0.1, n=50, higher_is_better=True)
    (result,) = results_of([figure], {})
    assert result.interval == pytest.approx((0.304, 0.696), abs=1e-3)
    assert result.method == "normal"


def test_one_sample_says_nothing_of_its_error() -> None:
    figure = Figure(name="acc", value=1.0, standard_error=0.0, n=1, higher_is_better=True, proportion=True)
    (result,) = results_of([figure], {})
    assert result.method == "none"
