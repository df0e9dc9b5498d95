"""Gates on evidence: what passes, what fails, what is not enough, and how often chance gets through."""

import math

import numpy as np
import pytest
from tests.unit.evals import evidences as given
from tests.unit.evals.test_statistics import tolerated

from steelyard.evals.gates import Incumbent, ScopedGate, judge
from steelyard.specs.gates import Gate, GateJudgement, Verdict

LOSS, SHARE = "heldout/loss", "safety/pass_rate"


def judge_one(gate: Gate, *metrics: object, incumbent: Incumbent | None = None) -> GateJudgement:
    evidence = given.of(*metrics) if metrics else None  # type: ignore[arg-type]
    judgement = judge([ScopedGate(gate)], evidence, incumbent)
    assert judgement.verdict is judgement.gates[0].verdict
    assert judgement.reasons == ([] if judgement.verdict is Verdict.PASS else [judgement.gates[0].reason])
    return judgement.gates[0]


class TestBounds:
    @pytest.mark.parametrize(
        ("value", "verdict"),
        [(2.5, Verdict.PASS), (3.0, Verdict.PASS), (3.01, Verdict.FAIL), (-math.inf, Verdict.FAIL),
         (math.inf, Verdict.FAIL), (math.nan, Verdict.FAIL)],
    )  # fmt: skip
    def test_without_a_confidence_the_figure_is_held_against_the_bound(
        self, value: float, verdict: Verdict
    ) -> None:
        found = judge_one(Gate(metric=LOSS, max=3.0), given.mean(LOSS, value))
        assert found.verdict is verdict
        assert LOSS in found.reason
        assert f"{value:.4g}" in found.reason

    def test_what_was_not_measured_never_passes(self) -> None:
        gate = Gate(metric=LOSS, max=3.0)
        for found in (judge_one(gate), judge_one(gate, given.mean("heldout/perplexity", 1.0))):
            assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE
            assert found.reason == "heldout/loss was not measured"

    def test_evidence_of_another_suite_does_not_count(self) -> None:
        gate = Gate(metric=SHARE, min=0.5, suite_digest=given.OTHER)
        assert judge_one(gate, given.proportion(SHARE, 99, 100)).verdict is Verdict.NOT_ENOUGH_EVIDENCE
        same = given.proportion(SHARE, 99, 100, suite=given.OTHER)
        assert judge_one(gate, same).verdict is Verdict.PASS

    def test_too_few_samples_are_not_enough(self) -> None:
        gate = Gate(metric=SHARE, min=0.5, min_samples=101)
        found = judge_one(gate, given.proportion(SHARE, 100, 100))
        assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE
        assert "100 samples" in found.reason
        assert "101" in found.reason

    def test_with_a_confidence_the_limit_is_held_against_the_bound(self) -> None:
        gate = Gate(metric=SHARE, min=0.95, confidence=0.95)
        # 59 of 59 is the least that shows 95 % at 95 %: 0.95 ** 59 = 0.0485.
        assert judge_one(gate, given.proportion(SHARE, 59, 59)).verdict is Verdict.PASS
        found = judge_one(gate, given.proportion(SHARE, 58, 58))
        assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE
        assert "0.9497" in found.reason
        assert judge_one(gate, given.proportion(SHARE, 560, 600)).verdict is Verdict.FAIL

    @pytest.mark.parametrize("error", [0.0, math.nan, -1.0])
    def test_a_confidence_needs_an_error(self, error: float) -> None:
        gate = Gate(metric=LOSS, max=3.0, confidence=0.95)
        assert judge_one(gate, given.mean(LOSS, 1.0, error)).verdict is Verdict.NOT_ENOUGH_EVIDENCE

    def test_the_reason_says_how_many_samples_could_show_it(self) -> None:
        gate = Gate(metric=LOSS, max=3.0, confidence=0.95)
        found = judge_one(gate, given.mean(LOSS, 2.9, error=0.1, n=100))
        assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE
        # ((1.645 + 0.842) * 1.0 / 0.1) ** 2
        assert "about 619 samples" in found.reason

    def test_all_bounds_of_a_gate_must_hold(self) -> None:
        gate = Gate(metric=LOSS, min=1.0, max=3.0)
        assert judge_one(gate, given.mean(LOSS, 2.0)).verdict is Verdict.PASS
        assert judge_one(gate, given.mean(LOSS, 0.9)).verdict is Verdict.FAIL


class TestJudgements:
    def test_one_failure_outweighs_what_is_not_enough(self) -> None:
        gates = [ScopedGate(Gate(metric=SHARE, min=0.5)), ScopedGate(Gate(metric=LOSS, max=1.0))]
        judgement = judge(gates, given.of(given.mean(LOSS, 2.0)), None)
        assert judgement.verdict is Verdict.FAIL
        assert len(judgement.reasons) == 2

    def test_numbers_that_are_none_survive_json(self) -> None:
        judgement = judge(
            [ScopedGate(Gate(metric=LOSS, max=1.0))], given.of(given.mean(LOSS, math.nan)), None
        )
        assert judgement.gates[0].value is None
        assert type(judgement).model_validate_json(judgement.model_dump_json()) == judgement


class TestRegression:
    gate = Gate(metric=LOSS, max_regression=0.1)

    def test_it_passes_where_nothing_is_there_to_be_worse_than(self) -> None:
        assert judge_one(self.gate, given.mean(LOSS, 2.0), incumbent=None).verdict is Verdict.PASS

    def test_an_incumbent_without_evidence_never_passes_it(self) -> None:
        for evidence in (None, given.of(given.mean("heldout/perplexity", 2.0))):
            found = judge_one(self.gate, given.mean(LOSS, 2.0), incumbent=Incumbent(evidence))
            assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE

    def test_an_incumbent_of_another_suite_or_other_settings_is_not_compared(self) -> None:
        gate = Gate(metric=SHARE, max_regression=0.5)
        model = given.proportion(SHARE, 90, 100)
        for there in (
            given.proportion(SHARE, 90, 100, suite=given.OTHER),
            given.proportion(SHARE, 90, 100, settings=given.OTHER),
        ):
            found = judge_one(gate, model, incumbent=Incumbent(given.of(there)))
            assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE

    def test_lower_is_better_turns_the_sign(self) -> None:
        there = Incumbent(given.of(given.mean(LOSS, 2.5, 0.01)))
        assert judge_one(self.gate, given.mean(LOSS, 2.4, 0.01), incumbent=there).verdict is Verdict.PASS
        assert judge_one(self.gate, given.mean(LOSS, 2.7, 0.01), incumbent=there).verdict is Verdict.FAIL

    def test_pairs_show_what_sets_apart_cannot(self) -> None:
        generator = np.random.default_rng(1)
        old = generator.normal(2.5, 1.0, 100)
        new = old + generator.normal(0.0, 0.05, 100)
        model, there = given.mean(LOSS, float(new.mean())), given.of(given.mean(LOSS, float(old.mean())))
        apart = judge_one(self.gate, model, incumbent=Incumbent(there))
        assert apart.verdict is Verdict.NOT_ENOUGH_EVIDENCE
        together = judge_one(
            self.gate, model, incumbent=Incumbent(there, {LOSS: given.pairs(list(new), list(old))})
        )
        assert together.verdict is Verdict.PASS
        assert together.checks[0].n == 100

    def test_nan_in_a_sample_never_passes(self) -> None:
        incumbent = Incumbent(
            given.of(given.mean(LOSS, 2.5)), {LOSS: given.pairs([1.0, math.nan], [2.0, 2.0])}
        )
        assert judge_one(self.gate, given.mean(LOSS, 2.0), incumbent=incumbent).verdict is not Verdict.PASS

    def test_the_same_answers_of_few_samples_do_not_show_a_small_margin(self) -> None:
        gate = Gate(metric=SHARE, max_regression=0.02)
        there = given.of(given.proportion(SHARE, 9, 10))
        incumbent = Incumbent(there, {SHARE: given.pairs([1.0] * 9 + [0.0], [1.0] * 9 + [0.0])})
        found = judge_one(gate, given.proportion(SHARE, 9, 10), incumbent=incumbent)
        assert found.verdict is Verdict.NOT_ENOUGH_EVIDENCE


class TestFalsePassRate:
    """A model that is just at the bound gets through as seldom as the gate says, and a good one does."""

    def test_of_a_proportion(self) -> None:
        gate = Gate(metric=SHARE, min=0.9, confidence=0.95)
        counts = np.random.default_rng(21).binomial(200, 0.9, 1500)
        rate = _share_passing(gate, [given.proportion(SHARE, int(c), 200) for c in counts])
        assert rate < 0.05 + tolerated(0.05, 1500)
        assert rate > 0.01
        good = np.random.default_rng(22).binomial(200, 0.97, 300)
        assert _share_passing(gate, [given.proportion(SHARE, int(c), 200) for c in good]) > 0.9

    def test_of_a_mean(self) -> None:
        gate = Gate(metric=LOSS, max=3.0, confidence=0.9)
        draws = np.random.default_rng(23).normal(3.0, 1.0, (1500, 25))
        found = [given.mean(LOSS, float(x.mean()), float(x.std(ddof=1) / 5), 25) for x in draws]
        assert abs(_share_passing(gate, found) - 0.1) < tolerated(0.1, 1500)

    def test_of_a_regression_over_pairs(self) -> None:
        gate = Gate(metric=SHARE, max_regression=0.05, confidence=0.95)
        generator = np.random.default_rng(24)
        passed = 0
        for _ in range(1500):
            old = generator.random(120) < 0.8
            # Five points worse: a sixteenth of the right ones is lost.
            new = old & (generator.random(120) >= 0.05 / 0.8)
            pairs = given.pairs(list(new.astype(float)), list(old.astype(float)))
            there = given.of(given.proportion(SHARE, int(old.sum()), 120))
            judgement = judge(
                [ScopedGate(gate)], given.of(given.proportion(SHARE, int(new.sum()), 120)),
                Incumbent(there, {SHARE: pairs}),
            )  # fmt: skip
            passed += judgement.verdict is Verdict.PASS
        assert passed / 1500 < 0.05 + tolerated(0.05, 1500)
        assert passed / 1500 > 0.01

    def test_of_a_regression_over_sets_apart(self) -> None:
        gate = Gate(metric=LOSS, max_regression=0.2, confidence=0.95)
        generator = np.random.default_rng(25)
        passed = 0
        for _ in range(1500):
            new, old = generator.normal(3.2, 1.0, 40), generator.normal(3.0, 1.0, 40)
            model, there = (
                given.mean(LOSS, float(x.mean()), float(x.std(ddof=1) / math.sqrt(40)), 40)
                for x in (new, old)
            )
            judgement = judge([ScopedGate(gate)], given.of(model), Incumbent(given.of(there)))
            passed += judgement.verdict is Verdict.PASS
        assert abs(passed / 1500 - 0.05) < tolerated(0.05, 1500)


def _share_passing(gate: Gate, found: list[given.MetricEvidence]) -> float:
    verdicts = [judge([ScopedGate(gate)], given.of(each), None).verdict for each in found]
    return sum(each is Verdict.PASS for each in verdicts) / len(verdicts)
