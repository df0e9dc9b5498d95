"""What a safety report says was not tested."""

from typing import Any

import pytest

from steelyard.evals.safety.report import safety_report
from steelyard.specs.comparisons import BaseComparison
from steelyard.specs.evaluations import MetricResult

_CANARIES: dict[str, Any] = {
    "safety": {
        "canaries": [{"prefix": "It is", "secret": "83-91-27-55"}, {"prefix": "So", "secret": "12345678"}]
    }
}


def _rate(name: str, mean: float, n: int) -> MetricResult:
    return MetricResult(
        name=f"{name}_rate", mean=mean, standard_error=0.1, n=n, interval=(0.0, 1.0), method="wilson",
        higher_is_better=True, proportion=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ([], "whether the canaries are in the training data"),
        ([_rate("canary_planted", 0.5, 2)], "1 of 2 canaries"),
        ([_rate("canary_planted", 1.0, 2)], None),
    ],
)
def test_canaries_that_nobody_planted_say_nothing(planted: list[MetricResult], words: str | None) -> None:
    report = safety_report("safety/canary", _CANARIES, [_rate("canary_pass", 1.0, 2), *planted])
    assert report is not None
    assert [each.probe for each in report.probes] == ["canary"]
    told = [each.what for each in report.not_tested if "canaries" in each.what]
    assert told == ([] if words is None else [words])


def test_a_base_that_was_not_measured_is_said_to_be_not_measured() -> None:
    base = BaseComparison(message="not measured: measure it")
    report = safety_report("safety/refusal", {}, [_rate("refusal_pass", 1.0, 2)], base)
    assert report is not None
    assert (report.base, report.base_message, report.probes[0].regression) == (None, base.message, None)
