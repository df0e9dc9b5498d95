"""Points of a grid, and how they get into a trial's spec."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.hpo.searches import search_spec

from steelyard.hpo.space import ends, grid_point, put, told
from steelyard.specs.job import FineTuneSpec


def _int_range(low: int, width: int, step: int) -> dict[str, Any]:
    return {"type": "int", "low": low, "high": low + width, "step": step}


INTS = st.builds(_int_range, st.integers(1, 20), st.integers(0, 12), st.integers(1, 5))
CHOICES = st.lists(st.sampled_from(["linear", "cosine", "constant"]), min_size=1, unique=True).map(
    lambda values: {"type": "choice", "values": values}
)


@given(rank=INTS, alpha=INTS, schedule=CHOICES)
def test_a_grid_has_each_point_once(rank: Any, alpha: Any, schedule: Any) -> None:
    parameters = {"peft.r": rank, "training.lr_scheduler_type": schedule, "peft.lora_alpha": alpha}
    block = search_spec(algorithm="grid", parameters=parameters, max_trials=10_000).search

    points = [grid_point(block, number) for number in range(block.trials)]

    def values(each: Any) -> list[Any]:
        return each.get("values") or list(range(each["low"], each["high"] + 1, each["step"]))

    expected = itertools.product(values(alpha), values(rank), values(schedule))
    assert [tuple(point.values()) for point in points] == list(expected)
    with pytest.raises(IndexError):
        grid_point(block, block.trials)


def test_steps_are_counted_in_decimals() -> None:
    dropout = {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}
    block = search_spec(algorithm="grid", parameters={"peft.lora_dropout": dropout}, max_trials=99).search

    found = [grid_point(block, number)["peft.lora_dropout"] for number in range(block.trials)]

    assert found == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_grid_is_no_larger_than_max_trials_and_no_smaller_than_it_is() -> None:
    parameters = {"peft.r": {"type": "int", "low": 1, "high": 6}}
    assert search_spec(algorithm="grid", parameters=parameters, max_trials=4).search.trials == 4
    assert search_spec(algorithm="grid", parameters=parameters, max_trials=40).search.trials == 6
    assert search_spec(algorithm="random", parameters=parameters, max_trials=40).search.trials == 40


def test_values_replace_fields_and_leave_the_template_alone() -> None:
    template = search_spec().trial.model_dump(mode="json")
    before = json.dumps(template)

    spec = FineTuneSpec.model_validate_json(
        json.dumps(put(template, {"training.learning_rate": 0.5, "peft.r": 3, "training.seed": 9}))
    )

    assert (spec.training.learning_rate, spec.training.seed, spec.training.max_steps) == (0.5, 9, 81)
    assert spec.peft is not None
    assert spec.peft.r == 3
    assert json.dumps(template) == before


def test_the_ends_of_a_range_are_values_of_its_grid() -> None:
    block = search_spec(
        parameters={
            "peft.lora_dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.2},
            "peft.r": {"type": "int", "low": 1, "high": 6, "step": 4},
            "training.learning_rate": {"type": "float", "low": 0.1, "high": 0.5},
            "training.warmup_steps": {"type": "int", "low": 2, "high": 2},
        }
    ).search

    found = {path: ends(parameter) for path, parameter in block.parameters.items()}

    assert found == {
        "peft.lora_dropout": [0.0, 0.4],
        "peft.r": [1, 5],
        "training.learning_rate": [0.1, 0.5],
        "training.warmup_steps": [2],
    }


def test_a_point_is_told_in_the_order_of_its_paths() -> None:
    assert told({"b": 1, "a": 0.5}) == "a=0.5, b=1"
