"""What a pipeline will do, said before it is submitted."""

from steelyard.rlhf.stages import POLICY_STAGE, REWARD_STAGE, model_names, weighing_of
from steelyard.specs.gates import Gate
from steelyard.specs.job import RlhfSpec


def forecast(spec: RlhfSpec) -> list[str]:
    """Return sentences for people: each stage, what it must keep, and what is registered."""
    names = model_names(spec)
    told: list[str] = []
    if (block := spec.reward_model) is not None:
        sure = f" at {block.confidence:g} confidence" if block.confidence is not None else ""
        told.append(
            f"{block.max_steps} steps, registered as {names[REWARD_STAGE]}; must order "
            f"{block.min_accuracy:g} of the held-out pairs rightly{sure}, or no policy is trained"
        )
    weighing = weighing_of(spec)
    gates = ", ".join(_bound(gate) for gate in weighing.gates)
    told.append(
        f"{spec.policy.max_steps} steps of {spec.policy.method}, weighed by "
        f"{', '.join(weighing.suite_names)}; registered as {names[POLICY_STAGE]} where it keeps {gates}"
    )
    limits = spec.stage_limits
    return [
        f"stage {number} of {len(limits)}, {stage}, "
        f"{limits[stage].max_runtime_seconds / 3600:.3g} h at most: {sentence}"
        for number, (stage, sentence) in enumerate(zip(limits, told, strict=True), 1)
    ]


def _bound(gate: Gate) -> str:
    bounds = {">=": gate.min, "<=": gate.max}
    parts = [f"{gate.metric} {sign} {bound:g}" for sign, bound in bounds.items() if bound is not None]
    if gate.max_regression is not None:
        parts.append(f"{gate.metric} within {gate.max_regression:g} of the base model's")
    return ", ".join(parts)
