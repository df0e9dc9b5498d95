"""Gates on figures."""

import math

import pytest

from steelyard.jobs.gates import judge
from steelyard.specs.blocks import Gate


class TestJudge:
    def test_a_figure_within_its_bounds_passes(self) -> None:
        gates = [Gate(metric="heldout/loss", max=3.0), Gate(metric="choices/accuracy", min=0.4)]
        assert judge(gates, {"tuned/heldout/loss": 2.5, "tuned/choices/accuracy": 0.4}, "tuned") == []

    @pytest.mark.parametrize("value", [3.01, math.nan, math.inf])
    def test_a_figure_beyond_its_bound_is_named_with_both_numbers(self, value: float) -> None:
        faults = judge([Gate(metric="heldout/loss", max=3.0)], {"tuned/heldout/loss": value}, "tuned")
        assert len(faults) == 1
        assert "heldout/loss" in faults[0]
        assert "3" in faults[0]

    def test_a_missing_figure_never_passes(self) -> None:
        assert judge([Gate(metric="heldout/loss", max=3.0)], {"base/heldout/loss": 1.0}, "tuned") == [
            "heldout/loss was not measured"
        ]
