"""Every rule of the job specs refuses what breaks it, and says which field it was."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steelyard.specs.job import JOB_SPEC, SPEC_CLASSES, FineTuneSpec

FINE_TUNE: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "a",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "rows@v1"},
    "training": {"max_steps": 3},
}
SCRIPT: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "a",
    "method": "script",
    "script": {"filename": "t.py", "source": "print()"},
}
EVALUATION = {"suites": ["heldout"], "gates": [{"metric": "heldout/loss", "max": 1.0}]}
HPO: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "hpo",
    "name": "a",
    "search": {
        "algorithm": "grid",
        "metric": "heldout/loss",
        "direction": "minimize",
        "parameters": {"training.learning_rate": {"type": "float", "low": 0.1, "high": 1.0}},
        "max_trials": 2,
    },
    "trial": FINE_TUNE,
}
RETRAIN: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "retrain",
    "name": "a",
    "trigger": {"kind": "schedule", "cron": "0 3 * * *"},
    "template": FINE_TUNE,
}
RLHF: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "rlhf",
    "name": "a",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "pairs"},
    "reward_model": {"max_steps": 1},
    "policy": {"method": "ppo", "max_steps": 1},
}
EVAL_ONLY: dict[str, Any] = {
    "api_version": "steelyard/v1",
    "type": "eval_only",
    "name": "a",
    "model": {"name_or_path": "builtin/tiny-random"},
    "dataset": {"ref": "rows"},
    "evaluation": EVALUATION,
}
REWARD: dict[str, Any] = {**FINE_TUNE, "method": "reward"}
DPO: dict[str, Any] = {**FINE_TUNE, "method": "dpo", "preference": {"beta": 0.2}}
KTO: dict[str, Any] = {**FINE_TUNE, "method": "kto"}
PPO: dict[str, Any] = {**FINE_TUNE, "method": "ppo", "online": {"reward_model": "models/r@1"}}
RLHF_DPO: dict[str, Any] = {
    **{name: value for name, value in RLHF.items() if name != "reward_model"},
    "policy": {"method": "dpo", "max_steps": 1},
}
ALL = [FINE_TUNE, SCRIPT, REWARD, DPO, KTO, PPO, HPO, RETRAIN, RLHF, RLHF_DPO, EVAL_ONLY]
SAFE = {"suites": ["safety"]}

Change = Callable[[dict[str, Any]], object]


def parse(spec: dict[str, Any]) -> Any:
    return JOB_SPEC.validate_json(json.dumps(spec))


def put(path: str, value: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        *above, last = path.split("/")
        for part in above:
            spec = spec.setdefault(part, {})
        spec[last] = value

    return change


def gated(**gate: Any) -> dict[str, Any]:
    return {"suites": ["heldout"], "gates": [gate]}


def drop(name: str) -> Change:
    return lambda spec: spec.pop(name)


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: f"{spec['type']}-{spec.get('method')}")
def test_the_base_of_these_tests_is_valid(spec: dict[str, Any]) -> None:
    assert parse(spec).type == spec["type"]


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (FINE_TUNE, drop("model"), "needs a model block"),
        (FINE_TUNE, drop("dataset"), "needs a dataset block"),
        (FINE_TUNE, drop("training"), "needs max_steps or num_train_epochs"),
        (FINE_TUNE, put("training/num_train_epochs", 1.0), "not both"),
        (FINE_TUNE, put("script", SCRIPT["script"]), "needs method: script"),
        (FINE_TUNE, put("method", "script"), "needs a script block"),
        (SCRIPT, put("peft", {}), "takes no peft or evaluation"),
        (SCRIPT, put("evaluation", EVALUATION), "takes no peft or evaluation"),
        (FINE_TUNE, put("distributed", {"processes_per_node": 2}), "needs strategy ddp or fsdp"),
        (FINE_TUNE, put("distributed", {"num_nodes": 2}), "needs strategy ddp or fsdp"),
        (FINE_TUNE, put("evaluation", gated(metric="heldout/loss")), "min or max"),
        (FINE_TUNE, put("evaluation", gated(metric="choices/accuracy", min=0.1)), "not in suites"),
        (HPO, put("search/parameters/x", {"type": "float", "low": 1.0, "high": 1.0}), "less than high"),
        (HPO, put("search/parameters/x", {"type": "float", "low": 0.0, "high": 1.0, "log": True}), "low > 0"),
        (HPO, put("search/parameters/x", {"type": "int", "low": 2, "high": 1}), "greater than high"),
        (RETRAIN, put("trigger", {"kind": "schedule"}), "needs cron"),
        (RETRAIN, put("trigger", {"kind": "drift", "metric": "psi"}), "needs metric and threshold"),
        (RETRAIN, put("trigger", {"kind": "performance", "threshold": 0.1}), "needs metric and threshold"),
        (REWARD, drop("model"), "method reward needs a model block"),
        (REWARD, put("evaluation", SAFE), "takes no evaluation block"),
        (REWARD, put("preference", {}), "takes no preference block"),
        (REWARD, put("dataset/format", "messages"), "learns from preference data"),
        (REWARD, put("training/packing", True), "is for method sft"),
        (DPO, put("online", PPO["online"]), "takes no online block"),
        (DPO, put("dataset/format", "unpaired_preference"), "learns from preference data"),
        (DPO, put("evaluation", EVALUATION), "use safety"),
        (DPO, put("preference/desirable_weight", 2.0), "are for method kto"),
        (KTO, put("preference", {"loss_type": "ipo"}), "kto has its own loss"),
        (PPO, drop("online"), "names a reward_model"),
        (PPO, put("dataset/format", "text"), "preference or prompt_completion or messages"),
        (PPO, put("training/assistant_only_loss", True), "is for method sft"),
        (FINE_TUNE, put("evaluation", gated(metric="policy/kl", max=1.0)), "sft has no reference"),
        (EVAL_ONLY, put("evaluation", gated(metric="policy/kl", max=1.0)), "this job has none"),
        (PPO, put("distributed", {"strategy": "ddp"}), "trains in one process"),
        (RLHF, put("distributed", {"strategy": "ddp"}), "trains in one process"),
        (RLHF, drop("reward_model"), "needs a reward_model block"),
        (RLHF_DPO, put("reward_model", RLHF["reward_model"]), "leave reward_model out"),
        (RLHF_DPO, put("dataset/format", "messages"), "learns from preference data"),
        (RLHF_DPO, put("policy/ppo_epochs", 2), "policy.ppo_epochs means nothing to method dpo"),
        (RLHF_DPO, put("policy/beta", 0.0), "needs beta > 0"),
        (RLHF, put("policy/num_generations", 8), "policy.num_generations means nothing to method ppo"),
        (RLHF, put("reward_model/model_name", RLHF["name"]), "is where the policy is registered"),
        (RLHF, put("training/max_steps", 8), "reward_model.max_steps and policy.max_steps"),
        (RLHF, put("training/packing", True), "is for method sft"),
        (RLHF, put("evaluation", EVALUATION), "use safety"),
    ],
)  # fmt: skip
def test_a_rule_over_fields_refuses(base: dict[str, Any], change: Change, words: str) -> None:
    spec = copy.deepcopy(base)
    change(spec)

    with pytest.raises(ValidationError, match=words):
        parse(spec)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (FINE_TUNE, put("training", {"num_train_epochs": 1.5})),
        (FINE_TUNE, put("distributed", {"strategy": "ddp", "processes_per_node": 2})),
        (FINE_TUNE, put("evaluation", EVALUATION)),
        (REWARD, put("dataset/format", "preference")),
        (DPO, put("evaluation", {**SAFE, "gates": [{"metric": "policy/kl", "max": 1.0}]})),
        (KTO, put("dataset/format", "unpaired_preference")),
        (PPO, put("evaluation", EVALUATION)),
        (PPO, put("dataset/format", "messages")),
        (RLHF, put("policy", {"method": "grpo", "max_steps": 1, "num_generations": 8})),
        (RLHF, put("evaluation", {**SAFE, "gates": [{"metric": "policy/kl", "max": 1.0}]})),
        (RLHF_DPO, put("policy", {"method": "kto", "max_steps": 1, "desirable_weight": 2.0})),
        (RETRAIN, put("trigger", {"kind": "drift", "metric": "psi", "threshold": 0.2})),
        (HPO, put("search/parameters", {"x": {"type": "int", "low": 1, "high": 1}})),
    ],
)
def test_a_rule_over_fields_lets_the_good_pass(base: dict[str, Any], change: Change) -> None:
    spec = copy.deepcopy(base)
    change(spec)

    parse(spec)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        (FINE_TUNE, "nmae"),
        (FINE_TUNE, "training/max_stepz"),
        (FINE_TUNE, "resources/gpu"),
        (HPO, "search/pruning/min_step"),
        (HPO, "trial/training/max_stepz"),
        (RETRAIN, "template/model/path"),
        (RETRAIN, "rollout/step_percent"),
        (RLHF, "policy/epochs"),
        (EVAL_ONLY, "evaluation/suite"),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(base: dict[str, Any], path: str) -> None:
    spec = copy.deepcopy(base)
    put(path, 1)(spec)

    with pytest.raises(ValidationError) as caught:
        parse(spec)

    (fault,) = caught.value.errors()
    assert fault["type"] == "extra_forbidden"
    assert fault["loc"] == (spec["type"], *path.split("/"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training/max_steps", "10"),
        ("training/max_steps", 10.5),
        ("training/max_steps", True),
        ("training/max_steps", 0),
        ("training/learning_rate", 0.0),
        ("training/seed", -1),
        ("training/packing", "yes"),
        ("checkpoint/save_total_limit", 1),
        ("priority", 1001),
        ("name", "Über"),
        ("name", "-a"),
        ("dataset/ref", "rows@v0"),
        ("dataset/ref", "../rows"),
        ("api_version", "steelyard/v2"),
        ("tags", {"team": 3}),
        ("tags", {"T EAM": "x"}),
        ("evaluation", {"suites": []}),
        ("evaluation", {"suites": ["No such"]}),
        ("evaluation", {"suites": ["heldout", "heldout@sha256:" + "0" * 64]}),
        ("model/name_or_path", ""),
    ],
)
def test_a_value_is_neither_coerced_nor_let_out_of_bounds(path: str, value: Any) -> None:
    spec = copy.deepcopy(FINE_TUNE)
    put(path, value)(spec)

    with pytest.raises(ValidationError) as caught:
        parse(spec)
    assert caught.value.errors()[0]["loc"][1 : 1 + path.count("/") + 1] == tuple(path.split("/"))


def test_a_type_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="fine_tune"):
        parse({**FINE_TUNE, "type": "finetune"})


@pytest.mark.parametrize(
    "name", ["r@1", "models/r", "models/r@0", "models/R@1", "models/../r@1", "builtin/tiny-random"]
)
def test_a_reward_model_is_a_registered_one(name: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        parse({**PPO, "online": {"reward_model": name}})


@pytest.mark.parametrize("spec", [PPO, DPO, RLHF, RLHF_DPO], ids=["ppo", "dpo", "rlhf", "rlhf-dpo"])
def test_a_spec_with_all_its_defaults_written_out_is_the_same(spec: dict[str, Any]) -> None:
    written = JOB_SPEC.dump_json(parse(spec))

    assert JOB_SPEC.dump_json(JOB_SPEC.validate_json(written)) == written


def test_the_stages_of_rlhf_have_the_jobs_limits_or_their_own() -> None:
    own = {**RLHF, "limits": {"max_runtime_seconds": 60}}
    own["policy"] = {**RLHF["policy"], "limits": {"max_runtime_seconds": 7}}

    stages = parse(own).stage_limits

    assert {name: each.max_runtime_seconds for name, each in stages.items()} == {
        "reward_model": 60,
        "policy": 7,
    }
    assert list(parse(RLHF_DPO).stage_limits) == ["policy"]


def test_a_spec_can_not_be_changed() -> None:
    spec = parse(FINE_TUNE)
    with pytest.raises(ValidationError, match="frozen"):
        spec.training.max_steps = 5


@pytest.mark.parametrize("job_type", list(SPEC_CLASSES))
def test_the_schema_is_closed_and_described(job_type: str) -> None:
    schema = SPEC_CLASSES[job_type].model_json_schema()

    blocks = [schema, *schema["$defs"].values()]
    assert all(block["additionalProperties"] is False for block in blocks if block.get("type") == "object")
    assert schema["properties"]["priority"]["description"]


@given(
    steps=st.integers(1, 10**9),
    rate=st.floats(1e-12, 10.0),
    seed=st.integers(0, 2**32 - 1),
    tags=st.dictionaries(
        st.from_regex(r"\A[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?\Z"),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=256),
        max_size=32,
    ),
    priority=st.integers(0, 1000),
)
def test_whatever_is_in_bounds_survives_json(
    steps: int, rate: float, seed: int, tags: dict[str, str], priority: int
) -> None:
    training = {"max_steps": steps, "learning_rate": rate, "seed": seed}
    spec = parse({**FINE_TUNE, "training": training, "tags": tags, "priority": priority})

    again = JOB_SPEC.validate_json(JOB_SPEC.dump_json(spec))

    assert isinstance(again, FineTuneSpec)
    assert again == spec
    assert (again.training.learning_rate, again.tags) == (rate, tags)
