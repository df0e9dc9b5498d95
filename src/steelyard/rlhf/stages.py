"""The stages of a pipeline as orders for fine-tunes: what each takes over from the pipeline's spec."""

from typing import Any

from steelyard.specs.blocks import EvaluationBlock, RegisterBlock
from steelyard.specs.families import ChildOrder
from steelyard.specs.gates import POLICY_KL, Gate
from steelyard.specs.job import FineTuneSpec, RlhfSpec
from steelyard.specs.methods import (
    ONLINE_METHODS,
    REWARD_METHOD,
    OnlineBlock,
    OnlineSettings,
    PreferenceBlock,
    PreferenceSettings,
)
from steelyard.specs.rlhf import PolicyBlock, RewardModelBlock
from steelyard.specs.safety import SAFETY

REWARD_STAGE = "reward_model"
POLICY_STAGE = "policy"
SAFETY_RATE = f"{SAFETY}/pass_rate"
_NAME_LENGTH = 63


def reward_order(spec: RlhfSpec, block: RewardModelBlock) -> ChildOrder:
    """Return the order of the stage that learns a scorer from the pairs."""
    name = model_names(spec)[REWARD_STAGE]
    stage = _stage(spec, REWARD_STAGE, REWARD_METHOD, block.max_steps, block.learning_rate)
    child = stage.model_copy(update={"name": name, "register_as": RegisterBlock(model_name=name)})
    why = f"{block.max_steps} steps over {spec.dataset.ref}"
    return _order(REWARD_STAGE, child, {"method": REWARD_METHOD}, why)


def policy_order(spec: RlhfSpec, reward_model: str | None, why: str) -> ChildOrder:
    """Return the order of the stage that trains the policy and weighs it.

    Args:
        reward_model: `models/NAME@VERSION`, for the methods that need one.
        why: what allows it, in words.
    """
    block = spec.policy
    stage = _stage(spec, POLICY_STAGE, block.method, block.max_steps, block.learning_rate)
    changes: dict[str, Any] = {
        "name": _shorten(spec.name, f"-{block.method}"),
        "evaluation": weighing_of(spec),
        "register_as": RegisterBlock(model_name=model_names(spec)[POLICY_STAGE]),
    }
    if block.method in ONLINE_METHODS:
        assert reward_model is not None
        settings = _settings(block, OnlineSettings)
        changes["online"] = OnlineBlock(reward_model=reward_model, beta=block.beta, **settings)
    else:
        changes["preference"] = PreferenceBlock(beta=block.beta, **_settings(block, PreferenceSettings))
    told = {"method": block.method} | ({"reward_model": reward_model} if reward_model else {})
    return _order(POLICY_STAGE, stage.model_copy(update=changes), told, why)


def all_orders(spec: RlhfSpec) -> list[ChildOrder]:
    """Return the orders of all stages, with a name in place of the reward model that is still to be made."""
    scorer = [reward_order(spec, spec.reward_model)] if spec.reward_model is not None else []
    return [*scorer, policy_order(spec, "models/to-be-made@1" if scorer else None, "")]


def weighing_of(spec: RlhfSpec) -> EvaluationBlock:
    """Return what the policy is weighed by: the job's suites and gates, and all safety probes."""
    block = spec.evaluation or EvaluationBlock(suites=[SAFETY])
    suites = block.suites if SAFETY in block.suite_names else [*block.suites, SAFETY]
    safety = spec.safety
    gates = [*block.gates, Gate(metric=SAFETY_RATE, min=safety.min_pass_rate, confidence=safety.confidence)]
    if spec.safety.max_kl is not None:
        gates.append(Gate(metric=POLICY_KL, max=spec.safety.max_kl))
    return block.model_copy(update={"suites": suites, "gates": gates})


def model_names(spec: RlhfSpec) -> dict[str, str]:
    """Return the name that each stage's model is registered under."""
    policy = spec.register_as.model_name if spec.register_as else spec.name
    own = spec.reward_model.model_name if spec.reward_model else None
    return {REWARD_STAGE: own or _shorten(policy, "-reward"), POLICY_STAGE: policy}


def _stage(
    spec: RlhfSpec, stage: str, method: str, max_steps: int, learning_rate: float | None
) -> FineTuneSpec:
    training: dict[str, Any] = {"max_steps": max_steps}
    if learning_rate is not None:
        training["learning_rate"] = learning_rate
    # A copy is not checked: the order is, as every spec, where the child is made.
    return FineTuneSpec.model_construct(
        api_version=spec.api_version,
        type="fine_tune",
        name=spec.name,
        method=method,
        model=spec.model,
        dataset=spec.dataset,
        peft=spec.peft,
        training=spec.training.model_copy(update=training),
        checkpoint=spec.checkpoint,
        distributed=spec.distributed,
        resources=spec.resources,
        limits=spec.stage_limits[stage],
        priority=spec.priority,
        secrets=spec.secrets,
        tags=spec.tags,
    )


def _order(key: str, child: FineTuneSpec, parameters: dict[str, Any], why: str) -> ChildOrder:
    spec = child.model_dump(mode="json")
    return ChildOrder(key=key, spec=spec, parameters=parameters, registers=True, why=why)


def _settings(block: PolicyBlock, of: type[OnlineSettings] | type[PreferenceSettings]) -> dict[str, Any]:
    return {name: getattr(block, name) for name in of.model_fields}


def _shorten(name: str, ending: str) -> str:
    return name[: _NAME_LENGTH - len(ending)] + ending
