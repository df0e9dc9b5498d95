"""What is wrong with a search is said before its first trial, with the path of the field."""

from typing import Any

import pytest
from tests.unit.hpo.searches import RATE, TRIAL, search_spec

from steelyard.hpo.checks import require_searchable
from steelyard.hpo.forecasts import forecast
from steelyard.hpo.paths import open_paths
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.job import HpoSpec

STEPS = {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}


def searched(path: str, parameter: dict[str, Any], **changes: Any) -> HpoSpec:
    return search_spec(parameters={path: parameter}, **changes)


def trained(**changes: Any) -> dict[str, Any]:
    return {"training": TRIAL["training"] | changes}


ASHA = {"type": "asha", "min_steps": 3}
INT = {"type": "int", "low": 1, "high": 3}
CASES: list[tuple[HpoSpec, str, str]] = [
    (
        searched("training.learning_rat", RATE),
        "search.parameters.training.learning_rat",
        "did you mean training.learning_rate",
    ),
    (searched("learning_rate", RATE), "search.parameters.learning_rate", "no field learning_rate"),
    (searched("training.learning_rate.x", RATE), "search.parameters.training.learning_rate.x", "no field"),
    (searched("preference.beta", RATE), "search.parameters.preference.beta", "no preference block"),
    (searched("resources.gpus", INT), "search.parameters.resources.gpus", "reserved"),
    (searched("limits.max_runtime_seconds", INT), "search.parameters.limits.max_runtime_seconds", "reserved"),
    (searched("distributed.num_nodes", INT), "search.parameters.distributed.num_nodes", "reserved"),
    (searched("priority", INT), "search.parameters.priority", "the same for all"),
    (searched("secrets", INT), "search.parameters.secrets", "the same for all"),
    (searched("type", INT), "search.parameters.type", "is a fine-tune"),
    (
        searched("dataset.ref", {"type": "choice", "values": ["a@v1"]}),
        "search.parameters.dataset.ref",
        "different data",
    ),
    (searched("evaluation.max_samples", INT), "search.parameters.evaluation.max_samples", "don't compare"),
    (searched("training.eval_steps", INT), "search.parameters.training.eval_steps", "different steps"),
    (
        searched("training.learning_rate", {"type": "float", "low": 1.0, "high": 11.0}),
        "search.parameters.training.learning_rate",
        "11.0 is no value",
    ),
    (
        searched("training.learning_rate", {"type": "choice", "values": [0.1, "fast"]}),
        "search.parameters.training.learning_rate",
        "'fast' is no value",
    ),
    (
        searched("training.warmup_steps", {"type": "float", "low": 0.5, "high": 2.5}),
        "search.parameters.training.warmup_steps",
        "is no value",
    ),
    (
        searched("peft.r", {"type": "int", "low": 1020, "high": 1030, "step": 2}, algorithm="grid"),
        "search.parameters.peft.r",
        "1026 is no value",
    ),
    (
        searched("training.num_train_epochs", {"type": "float", "low": 1.0, "high": 2.0}),
        "search.parameters",
        "not both",
    ),
    (
        searched("training.learning_rate", RATE, algorithm="grid"),
        "search.parameters.training.learning_rate.step",
        "needs the step",
    ),
    (
        searched("training.learning_rate", RATE | {"step": 0.1}),
        "search.parameters.training.learning_rate.step",
        "leave out log or step",
    ),
    (
        searched("training.warmup_steps", {"type": "int", "low": 0, "high": 9, "log": True}),
        "search.parameters.training.warmup_steps.low",
        "low >= 1",
    ),
    (
        searched("training.learning_rate", {"type": "choice", "values": [1, 0.5, 1.0]}),
        "search.parameters.training.learning_rate.values",
        "1 and 1.0",
    ),
    (
        searched("training.packing", {"type": "choice", "values": [True, 1]}),
        "search.parameters.training.packing.values",
        "true and 1",
    ),
    (searched("training.lr", RATE), "search.parameters.training.lr", "did you mean training.learning_rate?"),
    (
        searched("training.seed", {"type": "choice", "values": [1, 2, 1]}),
        "search.parameters.training.seed.values",
        "twice",
    ),
    (
        searched("training.seed", {"type": "choice", "values": list(range(300))}),
        "search.parameters.training.seed.values",
        "256 values at most",
    ),
    (
        searched("training.weight_decay", {"type": "float", "low": 0.0, "high": 1e300, "step": 1e-300}),
        "search.parameters.training.weight_decay",
        "wider step",
    ),
    (
        searched("training.warmup_steps", {"type": "int", "low": 0, "high": 10**400}),
        "search.parameters.training.warmup_steps",
        "wider step",
    ),
    (
        search_spec(parameters={f"training.{number}": RATE for number in range(65)}),
        "search.parameters.training.0",
        "no field",
    ),
    (
        search_spec(metric="choices/accuracy"),
        "search.metric",
        "it measures train/loss, eval/loss, heldout/loss, heldout/perplexity",
    ),
    (search_spec(metric="heldout/accuracy"), "search.metric", "doesn't measure"),
    (search_spec(metric="loss"), "search.metric", "doesn't measure"),
    (
        search_spec(metric="eval/loss", trial=trained(eval_steps=None)),
        "search.metric",
        "doesn't measure eval/loss",
    ),
    (search_spec(metric="eval/loss", direction="maximize"), "search.direction", "write minimize"),
    (search_spec(pruning=ASHA), "search.pruning.metric", "prune by eval/loss"),
    (
        search_spec(pruning=ASHA | {"metric": "eval/loss"}, trial=trained(eval_steps=None)),
        "trial.training.eval_steps",
        "two looks",
    ),
    (
        search_spec(metric="eval/loss", pruning=ASHA | {"min_steps": 81}),
        "search.pruning.min_steps",
        "81 steps",
    ),
    (
        search_spec(metric="eval/loss", pruning=ASHA, trial=trained(eval_steps=81)),
        "trial.training.eval_steps",
        "last of 81",
    ),
    (search_spec(trial={"priority": 900}), "trial.priority", "search's priority"),
    (search_spec(trial={"register_as": {"model_name": "a"}}), "trial.register_as", "under the search's name"),
]


@pytest.mark.parametrize(
    ("spec", "param", "words"), CASES, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_fault_is_named_with_its_path(spec: HpoSpec, param: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as caught:
        require_searchable(spec)

    assert caught.value.param == param


def test_ppo_has_no_loss_to_be_pruned_by() -> None:
    trial = {
        "method": "ppo",
        "dataset": {"ref": "pairs@v1", "format": "preference"},
        "training": {"max_steps": 9},
        "online": {"reward_model": "models/judge@1"},
        "evaluation": None,
    }
    pruned = search_spec(metric="policy/kl", trial=trial, pruning=ASHA | {"metric": "train/loss"})

    with pytest.raises(InvalidSpec, match="ppo tells no train/loss") as caught:
        require_searchable(pruned)

    assert caught.value.param == "search.pruning.metric"
    require_searchable(search_spec(metric="policy/kl", trial=trial))


def test_what_a_trial_may_use_is_said_under_trial() -> None:
    spec = search_spec()
    gpus = spec.resources.model_copy(update={"gpus": 1})

    with pytest.raises(InvalidSpec) as caught:
        require_searchable(spec.model_copy(update={"resources": gpus}))

    assert caught.value.param == "resources"


@pytest.mark.parametrize(
    "spec",
    [
        search_spec(),
        search_spec(metric="eval/loss", pruning=ASHA),
        search_spec(metric="train/loss", pruning=ASHA | {"type": "median"}),
        search_spec(pruning=ASHA | {"metric": "eval/loss"}),
        search_spec(metric="stdlib/acc", direction="maximize", trial={"evaluation": {"suites": ["stdlib"]}}),
        search_spec(metric="safety/refusal/pass_rate", trial={"evaluation": {"suites": ["safety/refusal"]}}),
        searched("training.max_steps", INT, metric="eval/loss", pruning=ASHA | {"min_steps": 99}),
        searched("model.name_or_path", {"type": "choice", "values": ["builtin/tiny-random", "a/b"]}),
        searched("peft.lora_dropout", STEPS, algorithm="grid"),
        searched("peft.lora_dropout", STEPS, algorithm="bayesian"),
        searched("training.seed", {"type": "int", "low": 0, "high": 4_000_000_000}, algorithm="grid"),
    ],
)
def test_what_can_work_passes(spec: HpoSpec) -> None:
    require_searchable(spec)


def test_the_fields_that_can_be_searched_are_those_that_change_a_training() -> None:
    found = open_paths()

    assert {"training.learning_rate", "peft.r", "peft.lora_dropout", "preference.beta", "online.beta"} <= set(
        found
    )
    assert "training.eval_steps" not in found


def test_a_plan_tells_of_the_trials_and_the_first_of_them() -> None:
    spec = searched("peft.lora_dropout", STEPS, algorithm="grid", max_trials=9)

    assert forecast(spec) == [
        "3 trials at most, 3 at once; the best by heldout/loss (minimize) is registered as search",
        "the grid has 3 points, fewer than search.max_trials (9)",
        "trial-0000: peft.lora_dropout=0.1",
        "trial-0001: peft.lora_dropout=0.2",
        "trial-0002: peft.lora_dropout=0.3",
    ]
    cut = searched("peft.lora_dropout", STEPS, algorithm="grid", max_trials=2)
    assert "search.max_trials leaves out the last 1 of the grid's 3 points" in forecast(cut)
