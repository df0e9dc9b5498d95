"""Which values trials get: reproducible, within bounds, and better than chance where that is promised."""
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownArgumentType=false

import math
import random
from typing import Any

import pytest
from scipy.stats import wilcoxon
from tests.unit.hpo.searches import child, run_search, search_spec

from steelyard.hpo.sampling import propose
from steelyard.hpo.search import next_step
from steelyard.hpo.trials import best_of, read_trials
from steelyard.specs.families import Child
from steelyard.specs.states import JobState, Reason

MIXED: dict[str, Any] = {
    "training.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "peft.lora_dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "training.weight_decay": {"type": "float", "low": 0.0, "high": 1.0},
    "peft.r": {"type": "int", "low": 1, "high": 64, "log": True},
    "training.warmup_steps": {"type": "int", "low": 0, "high": 20, "step": 5},
    "training.packing": {"type": "choice", "values": [True, False]},
    "peft.lora_alpha": {"type": "choice", "values": [8, 16, 32]},
}


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_draws_are_values_of_their_parameters(algorithm: str) -> None:
    block = search_spec(algorithm=algorithm, parameters=MIXED, max_trials=300).search

    points = list(propose(block, [], range(100)).values())

    def drawn(path: str) -> list[Any]:
        return [point[path] for point in points]

    assert all(type(each) is float and 1e-5 <= each <= 1e-1 for each in drawn("training.learning_rate"))
    assert 25 < sum(each < 1e-3 for each in drawn("training.learning_rate")) < 75
    assert set(drawn("peft.lora_dropout")) == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert all(0.0 <= each <= 1.0 for each in drawn("training.weight_decay"))
    assert all(type(each) is int and 1 <= each <= 64 for each in drawn("peft.r"))
    assert 20 < sum(each <= 8 for each in drawn("peft.r")) < 80
    assert set(drawn("training.warmup_steps")) == {0, 5, 10, 15, 20}
    assert {repr(each) for each in drawn("training.packing")} == {"True", "False"}
    assert set(drawn("peft.lora_alpha")) == {8, 16, 32}


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_the_same_trials_give_the_same_points(algorithm: str) -> None:
    block = search_spec(algorithm=algorithm, parameters=MIXED, max_trials=60, seed=5).search
    other = search_spec(algorithm=algorithm, parameters=MIXED, max_trials=60, seed=6).search
    draw = random.Random(1)
    first = propose(block, [], range(40))
    children = [
        child(number, JobState.SUCCEEDED, value=draw.random(), parameters=dict(point))
        for number, point in first.items()
    ]
    shuffled = draw.sample(children, len(children))

    proposed = propose(block, read_trials(block, children), [40, 41])

    assert propose(block, read_trials(block, shuffled), [40, 41]) == proposed
    assert propose(block, read_trials(block, children), [41, 40]) == proposed
    assert propose(other, read_trials(other, children), [40, 41]) != proposed
    if algorithm == "random":
        assert proposed[40] == propose(block, [], [40])[40]


def test_each_trial_draws_anew() -> None:
    points = propose(search_spec().search, [], range(10))

    assert len({repr(point) for point in points.values()}) == 10


def test_trials_at_once_do_not_gather_in_one_place() -> None:
    block = search_spec(algorithm="bayesian", max_trials=40).search
    draw = random.Random(2)
    children = [
        child(
            number,
            JobState.SUCCEEDED,
            value=(math.log10(rate) + 3.0) ** 2,
            parameters={"training.learning_rate": rate},
        )
        for number, rate in enumerate(10 ** draw.uniform(-5.0, -1.0) for _ in range(20))
    ]

    points = propose(block, read_trials(block, children), range(20, 28))

    assert len({point["training.learning_rate"] for point in points.values()}) == 8


def test_values_that_end_in_no_number_are_kept_away_from() -> None:
    """Half of the range fails as NaN. What is proposed lies in the other half more often than by chance."""
    block = search_spec(algorithm="bayesian", max_trials=60, max_failed_trials=60).search
    draw = random.Random(3)
    children: list[Child] = []
    for number in range(30):
        rate = 10 ** draw.uniform(-5.0, -1.0)
        parameters = {"training.learning_rate": rate}
        if rate > 1e-3:
            children.append(child(number, JobState.FAILED, reason=Reason.NAN_LOSS, parameters=parameters))
        else:
            children.append(child(number, JobState.SUCCEEDED, value=draw.random(), parameters=parameters))

    points = propose(block, read_trials(block, children), range(30, 50))

    assert sum(float(point["training.learning_rate"]) <= 1e-3 for point in points.values()) >= 16


def _valley(parameters: dict[str, Any]) -> float:
    rate, decay = parameters["training.learning_rate"], parameters["training.weight_decay"]
    return (math.log10(rate) + 3.2) ** 2 + 4.0 * (decay - 0.3) ** 2


def _branin(parameters: dict[str, Any]) -> float:
    """Branin's function, which has three optima, over both ranges; the choice adds nothing or a half."""
    x = 15.0 * (math.log10(parameters["training.learning_rate"]) + 5.0) / 4.0 - 5.0
    y = 15.0 * parameters["training.weight_decay"]
    hill = y - 5.1 * x**2 / (4.0 * math.pi**2) + 5.0 * x / math.pi - 6.0
    base = hill**2 + 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * math.cos(x) + 10.0
    return base + 0.5 * (parameters["training.lr_scheduler_type"] != "linear")


@pytest.mark.parametrize("objective", [_valley, _branin])
def test_the_estimator_beats_chance(objective: Any) -> None:
    """One-sided Wilcoxon test over 16 pairs of searches, each pair with one seed."""
    parameters = {
        "training.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "training.weight_decay": {"type": "float", "low": 0.0, "high": 1.0},
        "training.lr_scheduler_type": {"type": "choice", "values": ["linear", "cosine", "constant"]},
    }

    def best(algorithm: str, seed: int) -> float:
        spec = search_spec(algorithm=algorithm, parameters=parameters, max_trials=60, seed=seed)
        found = best_of(spec.search, read_trials(spec.search, run_search(spec, objective)))
        assert found is not None
        assert found.value is not None
        return found.value

    differences = [best("random", seed) - best("bayesian", seed) for seed in range(16)]

    assert float(wilcoxon(differences, alternative="greater").pvalue) < 0.01


def test_pruned_searches_are_judged_at_the_highest_rung_that_has_enough_results() -> None:
    """Late values of a few can't be set beside early values of many: all that ended look equally good."""
    spec = search_spec(
        algorithm="bayesian",
        metric="eval/loss",
        max_trials=80,
        pruning={"type": "asha", "min_steps": 3, "reduction_factor": 3},
    )
    children: list[Child] = []
    for number in range(24):
        rate = 10 ** (-5.0 + 4.0 * number / 24)
        early = abs(math.log10(rate) + 3.0)
        curve = [(step, early) for step in range(1, 4)]
        if number % 8 == 0:
            curve += [(step, 0.0) for step in range(4, 82)]
        state = JobState.CANCELLED if len(curve) < 4 else JobState.SUCCEEDED
        reason = Reason.PRUNED if state is JobState.CANCELLED else None
        children.append(
            child(
                number, state, value=0.0 if state is JobState.SUCCEEDED else None, reason=reason,
                curve=curve, parameters={"training.learning_rate": rate}, metric="eval/loss",
            )
        )  # fmt: skip

    started = next_step(spec, children).start

    rates = [order.parameters["training.learning_rate"] for order in started]
    assert all(1e-4 < rate < 1e-2 for rate in rates), rates
