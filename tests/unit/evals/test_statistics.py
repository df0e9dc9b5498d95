"""Statistics against scipy and statsmodels, and intervals against what they promise, by simulation."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats import contingency_tables, power, proportion, weightstats

from steelyard.evals import statistics
from steelyard.kit import proportions


def z(probability: float) -> float:
    return float(scipy.stats.norm.ppf(probability))


def tolerated(rate: float, trials: int) -> float:
    """Four standard errors of a share of `trials`: chance goes further once in 15,000 tests."""
    return 4 * math.sqrt(rate * (1 - rate) / trials)


class TestKnownAnswers:
    @pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 7), (81, 263), (40, 40)])
    def test_wilson_is_statsmodels(self, successes: int, n: int) -> None:
        theirs = proportion.proportion_confint(successes, n, alpha=0.1, method="wilson")
        assert statistics.wilson_interval(successes, n, 0.9) == pytest.approx(theirs, abs=1e-12)

    @pytest.mark.parametrize(("successes", "n"), [(1, 7), (81, 263), (0, 9), (9, 9)])
    def test_exact_limits_are_clopper_and_pearson(self, successes: int, n: int) -> None:
        theirs = scipy.stats.binomtest(successes, n).proportion_ci(0.9, method="exact")
        assert proportions.exact_lower_limit(successes, n, 0.95) == pytest.approx(theirs.low, abs=1e-10)
        assert proportions.exact_upper_limit(successes, n, 0.95) == pytest.approx(theirs.high, abs=1e-10)

    def test_t_interval_is_statsmodels(self) -> None:
        x = np.random.default_rng(1).gamma(2.0, size=17)
        mean = statistics.weighted_mean(x)
        theirs = weightstats.DescrStatsW(x).tconfint_mean(alpha=0.05)
        assert statistics.t_interval(mean.value, mean.standard_error, mean.n) == pytest.approx(theirs)

    @pytest.mark.parametrize("method", ["percentile", "bca"])
    def test_bootstrap_is_scipys_within_its_own_randomness(self, method: Any) -> None:
        x = np.random.default_rng(2).lognormal(size=80)
        theirs = scipy.stats.bootstrap(
            (x,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(3)
        ).confidence_interval
        ours = statistics.bootstrap_interval(x, resamples=20000, method=method, seed=4)
        assert ours == pytest.approx((theirs.low, theirs.high), rel=0.03)

    def test_equal_seeds_give_equal_intervals(self) -> None:
        x = np.random.default_rng(2).lognormal(size=30)
        assert statistics.bootstrap_interval(x, seed=5) == statistics.bootstrap_interval(x, seed=5)
        assert statistics.bootstrap_interval(x, seed=5) != statistics.bootstrap_interval(x, seed=6)

    def test_a_constant_has_an_interval_of_no_width(self) -> None:
        assert statistics.bootstrap_interval([2.0] * 9) == (2.0, 2.0)

    @pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 9), (12, 12), (1, 23), (20, 41), (60, 58)])
    def test_mcnemar_is_statsmodels(self, only_a: int, only_b: int) -> None:
        ours = statistics.mcnemar(only_a, only_b)
        theirs = contingency_tables.mcnemar([[50, only_a], [only_b, 60]], exact=ours.exact, correction=True)
        assert ours.exact == (only_a + only_b < 25)
        assert ours.p_value == pytest.approx(theirs.pvalue)

    def test_the_paired_difference_is_the_paired_t_test(self) -> None:
        generator = np.random.default_rng(5)
        a, b = generator.normal(size=30), generator.normal(0.4, size=30)
        mean = statistics.paired_difference(a, b)
        theirs = scipy.stats.ttest_rel(b, a).confidence_interval(0.9)
        ours = statistics.t_lower_limit(mean.value, mean.standard_error, mean.n, 0.95)
        assert ours == pytest.approx(theirs.low)

    def test_equal_weights_change_nothing(self) -> None:
        generator = np.random.default_rng(5)
        a, b = generator.normal(size=30), generator.normal(0.4, size=30)
        weights = np.full(30, 7.0)
        plain, weighted = (
            statistics.paired_difference(a, b),
            statistics.paired_difference(a, b, weights, weights),
        )
        assert (weighted.value, weighted.standard_error) == pytest.approx((plain.value, plain.standard_error))

    def test_welch_is_statsmodels(self) -> None:
        generator = np.random.default_rng(6)
        new, old = generator.normal(1.0, 2.0, 25), generator.normal(0.0, 1.0, 40)
        compared = weightstats.CompareMeans.from_data(new, old)
        theirs = compared.tconfint_diff(alpha=0.05, alternative="larger", usevar="unequal")[0]
        ours = statistics.unpaired_lower_limit(
            statistics.weighted_mean(new), statistics.weighted_mean(old), 0.95
        )
        assert ours == pytest.approx(theirs)

    def test_agresti_and_caffo_is_statsmodels(self) -> None:
        theirs = proportion.confint_proportions_2indep(45, 50, 60, 70, method="agresti-caffo", alpha=0.1)
        assert statistics.unpaired_proportions_lower_limit(45, 50, 60, 70, 0.95) == pytest.approx(theirs[0])

    def test_tango_is_what_the_score_equation_says(self) -> None:
        """Against the likelihood, maximised by a solver: no closed form is shared."""
        gained, lost, n = 4, 9, 60
        limit = statistics.paired_proportions_lower_limit(gained, lost, n, 0.95)
        concordant = n - gained - lost

        def minus_likelihood(loss: float) -> float:
            gain = loss + limit
            rest = 1 - gain - loss
            return -(gained * math.log(gain) + lost * math.log(loss) + concordant * math.log(rest))

        low, high = max(0.0, -limit) + 1e-9, (1 - limit) / 2 - 1e-9
        loss = scipy.optimize.minimize_scalar(minus_likelihood, bounds=(low, high), method="bounded").x
        error = math.sqrt((2 * loss + limit - limit**2) / n)
        assert (gained - lost) / n - limit == pytest.approx(z(0.95) * error, rel=1e-3)

    def test_smallest_effects_are_statsmodels(self) -> None:
        paired = statistics.smallest_effect_paired(2.0, 400, confidence=0.95, power=0.8)
        assert power.NormalIndPower(ddof=0).power(paired / 2.0, 400, 0.05, ratio=0) == pytest.approx(
            0.8, abs=1e-4
        )
        assert power.TTestPower().power(paired / 2.0, 400, 0.05) == pytest.approx(0.8, abs=0.002)
        unpaired = statistics.smallest_effect_unpaired(2.0, 200, 2.0, 400)
        effect = power.NormalIndPower().solve_power(nobs1=200, ratio=2.0, alpha=0.05, power=0.8)
        assert unpaired == pytest.approx(2.0 * effect)
        found = statistics.smallest_effect_proportions(0.3, 200, 400)
        assert proportion.proportion_effectsize(0.3 + found, 0.3) == pytest.approx(effect)

    def test_nothing_is_said_of_no_samples(self) -> None:
        refusing: list[Callable[[], object]] = [
            lambda: statistics.wilson_interval(0, 0),
            lambda: proportions.exact_lower_limit(0, 0, 0.95),
            lambda: statistics.t_interval(1.0, 0.1, 1),
            lambda: statistics.bootstrap_interval([1.0]),
            lambda: statistics.paired_difference([1.0], [2.0]),
            lambda: statistics.bootstrap_interval([1.0, 2.0], [0.0, 0.0]),
            lambda: statistics.bootstrap_interval([1.0, 2.0], [1.0]),
        ]
        for call in refusing:
            with pytest.raises(ValueError, match=r"samples|weights"):
                call()


class TestCoverage:
    """The share of intervals that hold the truth, over seeded trials."""

    def test_wilson(self) -> None:
        counts = np.random.default_rng(11).binomial(150, 0.8, 4000)
        held = [low <= 0.8 <= high for low, high in (statistics.wilson_interval(int(c), 150) for c in counts)]
        assert abs(float(np.mean(held)) - 0.95) < tolerated(0.95, 4000)

    def test_student(self) -> None:
        draws = np.random.default_rng(12).normal(3.0, 2.0, (4000, 12))
        means, errors = draws.mean(axis=1), draws.std(axis=1, ddof=1) / math.sqrt(12)
        found = [
            statistics.t_interval(float(m), float(e), 12, 0.9) for m, e in zip(means, errors, strict=True)
        ]
        assert abs(float(np.mean([low <= 3.0 <= high for low, high in found])) - 0.9) < tolerated(0.9, 4000)

    def test_bootstrap(self) -> None:
        """Of a mean of 60 skewed values: BCa is known to fall a little short, by less than two points."""
        draws = np.random.default_rng(13).exponential(1.0, (500, 60))
        found = [statistics.bootstrap_interval(x, resamples=600, seed=i) for i, x in enumerate(draws)]
        held = float(np.mean([low <= 1.0 <= high for low, high in found]))
        assert 0.93 - tolerated(0.93, 500) < held < 0.95 + tolerated(0.95, 500)

    def test_a_paired_bootstrap_finds_no_difference_as_seldom_as_it_says(self) -> None:
        generator = np.random.default_rng(14)
        base = generator.normal(size=(500, 50))
        p_values = [
            statistics.paired_bootstrap(x, x + generator.normal(0, 0.5, 50), resamples=400, seed=i).p_value
            for i, x in enumerate(base)
        ]
        assert abs(float(np.mean(np.array(p_values) <= 0.05)) - 0.055) < tolerated(0.055, 500)

    def test_exact_limits_never_promise_too_much(self) -> None:
        for share in (0.5, 0.9, 0.97, 0.995):
            counts = np.arange(121)
            chance = scipy.stats.binom.pmf(counts, 120, share)
            wrong = [proportions.exact_lower_limit(int(c), 120, 0.95) > share for c in counts]
            assert float(chance[np.array(wrong)].sum()) <= 0.05

    def test_the_limit_of_paired_proportions(self) -> None:
        generator = np.random.default_rng(15)
        gained_lost = generator.multinomial(150, [0.05, 0.10, 0.85], 4000)
        above = [
            statistics.paired_proportions_lower_limit(int(g), int(lost), 150, 0.95) > -0.05
            for g, lost, _ in gained_lost
        ]
        assert abs(float(np.mean(above)) - 0.05) < tolerated(0.05, 4000) + 0.005

    def test_the_interval_of_paired_proportions(self) -> None:
        generator = np.random.default_rng(17)
        held: list[bool] = []
        for gained, lost, _ in generator.multinomial(60, [0.03, 0.05, 0.92], 4000):
            low, high = statistics.paired_proportions_interval(int(gained), int(lost), 60)
            held.append(low <= -0.02 <= high)
        assert float(np.mean(held)) > 0.95 - tolerated(0.05, 4000) - 0.005
        assert float(np.mean(held)) < 0.985

    def test_the_smallest_effect_is_found_as_often_as_it_says(self) -> None:
        effect = statistics.smallest_effect_paired(1.0, 100)
        draws = np.random.default_rng(16).normal(effect, 1.0, (4000, 100))
        found = scipy.stats.ttest_1samp(draws, 0.0, axis=1).pvalue <= 0.05
        # The normal approximation leaves out that the spread is estimated: half a point at n = 100.
        assert abs(float(found.mean()) - 0.795) < tolerated(0.8, 4000)
