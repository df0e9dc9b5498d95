"""What an RLHF pipeline wants next: a reward model, then a policy trained against it, then its end."""

from collections.abc import Callable, Sequence

from steelyard.rlhf.scorer import judge_scorer
from steelyard.rlhf.stages import POLICY_STAGE, REWARD_STAGE, policy_order, reward_order
from steelyard.specs.families import Child, ChildOrder, FamilyEnd, FamilyStep
from steelyard.specs.gates import POLICY_KL
from steelyard.specs.job import RlhfSpec
from steelyard.specs.rlhf import RewardModelBlock
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason

_SAFETY_FIGURE = "tuned/safety/pass_rate"
_DOING = {
    REWARD_STAGE: "the reward model learns from the preferences",
    POLICY_STAGE: "the policy is trained and weighed",
}


def next_step(spec: RlhfSpec, children: Sequence[Child]) -> FamilyStep:
    """Return what is to be done now. The same children give the same answer, in whatever order they come.

    No policy is made before there is a reward model that keeps its bound, where the method needs one. The
    policy's own gates judge it: safety and divergence among them, and without them it isn't registered. So
    the pipeline is over when a stage fails, when the reward model is too weak, or with the policy.
    """
    stages = {child.key: child for child in children}
    if spec.reward_model is None:
        why = f"{spec.policy.method} over {spec.dataset.ref}"
        return _policy_step(spec, stages.get(POLICY_STAGE), None, why)
    return _reward_step(spec, spec.reward_model, stages)


def _reward_step(spec: RlhfSpec, block: RewardModelBlock, stages: dict[str, Child]) -> FamilyStep:
    child = stages.get(REWARD_STAGE)
    if child is None or child.state is not JobState.SUCCEEDED:
        return _unfinished(spec, REWARD_STAGE, child, lambda: reward_order(spec, block))
    verdict = judge_scorer(block, child)
    if not verdict.good:
        return _over(FamilyEnd(False, Reason.REWARD_MODEL_TOO_WEAK, verdict.message))
    if child.model_version is None:
        return _over(FamilyEnd(False, Reason.MODEL_NOT_FOUND, f"{child.job_id} registered no reward model"))
    return _policy_step(spec, stages.get(POLICY_STAGE), child.model_version, verdict.message)


def _policy_step(spec: RlhfSpec, child: Child | None, reward_model: str | None, why: str) -> FamilyStep:
    if child is None or child.state is not JobState.SUCCEEDED:
        return _unfinished(spec, POLICY_STAGE, child, lambda: policy_order(spec, reward_model, why))
    against = f" against {reward_model}" if reward_model else ""
    figures = "; ".join(
        f"{words} {child.metrics[name]:.4g}"
        for name, words in ((_SAFETY_FIGURE, "safety/pass_rate"), (POLICY_KL, POLICY_KL))
        if name in child.metrics
    )
    told = f"trained by {spec.policy.method}{against}" + (f": {figures}" if figures else "")
    return _over(FamilyEnd(True, Reason.COMPLETED, told, chosen=POLICY_STAGE))


def _unfinished(
    spec: RlhfSpec, stage: str, child: Child | None, order: Callable[[], ChildOrder]
) -> FamilyStep:
    place = _place(spec, stage)
    if child is None:
        return FamilyStep(start=(order(),), message=f"{place}: {_DOING[stage]}")
    if child.is_due:
        return FamilyStep(restart=(stage,), message=f"{place}: {_DOING[stage]}")
    if child.state in TERMINAL_STATES:
        return _over(_failure(stage, child))
    return FamilyStep(message=f"{place}: {_DOING[stage]}; {child.job_id} is {child.state.value}")


def _failure(stage: str, child: Child) -> FamilyEnd:
    """A pipeline needs each of its stages: what ended one ends it, and the same reason stands for both."""
    cancelled = child.state is JobState.CANCELLED
    reason = child.reason or (Reason.CANCELLED_BY_USER if cancelled else Reason.TRAINER_FAILED)
    why = f": {child.message}" if child.message else ""
    return FamilyEnd(
        False, reason,
        f"stage {stage} ({child.job_id}) {'was cancelled' if cancelled else 'failed'}{why}; "
        "'steelyard retry' goes on from this stage",
    )  # fmt: skip


def _over(end: FamilyEnd) -> FamilyStep:
    return FamilyStep(end=end, message=end.message)


def _place(spec: RlhfSpec, stage: str) -> str:
    names = list(spec.stage_limits)
    return f"stage {names.index(stage) + 1} of {len(names)}"
