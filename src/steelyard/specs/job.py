"""The five job types. `JobSpec` is their union, told apart by `type`."""

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from steelyard.specs.base import Name, Spec, TagValue
from steelyard.specs.blocks import (
    CheckpointBlock,
    DatasetBlock,
    DistributedBlock,
    EndpointBlock,
    EvaluationBlock,
    LimitsBlock,
    LoraBlock,
    ModelBlock,
    RegisterBlock,
    ResourcesBlock,
    ScriptBlock,
    TrainingBlock,
)
from steelyard.specs.evaluations import BUILT_IN_SUITES
from steelyard.specs.faults import FieldFault
from steelyard.specs.gates import POLICY_KL
from steelyard.specs.methods import (
    METHOD_FORMATS,
    ONLINE_METHODS,
    PREFERENCE_METHODS,
    REWARD_METHOD,
    TEXT_FORMATS,
    Method,
    OnlineBlock,
    PreferenceBlock,
)
from steelyard.specs.rlhf import PolicyBlock, RewardModelBlock, SafetyBlock
from steelyard.specs.search import SearchBlock
from steelyard.specs.secrets import SecretName
from steelyard.specs.triggers import RolloutBlock, TriggerBlock

API_VERSION = "steelyard/v1"


class JobBase(Spec):
    """What all job types share."""

    api_version: Literal["steelyard/v1"]
    name: Name
    """A label for people; any number of jobs may have the same one."""
    resources: ResourcesBlock = ResourcesBlock()
    limits: LimitsBlock = LimitsBlock()
    priority: Annotated[int, Field(ge=0, le=1000)] = 500
    """Higher goes first; first come, first served within one priority."""
    secrets: Annotated[list[SecretName], Field(max_length=32)] = []
    """Names of the project's secrets that the job gets, each as a file (`steelyard.runtime` reads them)."""
    tags: Annotated[dict[Name, TagValue], Field(max_length=32)] = {}


class FineTuneSpec(JobBase):
    """One training of one model: imitation, a reward model, preferences, or reinforcement (`method`)."""

    type: Literal["fine_tune"]
    method: Method = "sft"
    model: ModelBlock | None = None
    dataset: DatasetBlock | None = None
    peft: LoraBlock | None = None
    """Unset: all weights are trained."""
    training: TrainingBlock = TrainingBlock()
    preference: PreferenceBlock | None = None
    """For methods dpo and kto. Unset: its defaults."""
    online: OnlineBlock | None = None
    """For methods ppo and grpo, which need it."""
    checkpoint: CheckpointBlock = CheckpointBlock()
    distributed: DistributedBlock = DistributedBlock()
    evaluation: EvaluationBlock | None = None
    script: ScriptBlock | None = None
    register_as: RegisterBlock | None = None
    """Unset: the model is registered under the job's name."""

    @model_validator(mode="after")
    def _method_has_its_blocks(self) -> Self:
        if self.preference is not None and self.method not in PREFERENCE_METHODS:
            raise FieldFault("preference", f"method {self.method} takes no preference block; dpo and kto do")
        if self.online is not None and self.method not in ONLINE_METHODS:
            raise FieldFault("online", f"method {self.method} takes no online block; ppo and grpo do")
        if self.method == "script":
            if self.script is None:
                raise FieldFault("script", "method script needs a script block")
            if self.peft is not None or self.evaluation is not None:
                raise FieldFault(
                    "peft" if self.peft is not None else "evaluation",
                    "method script takes no peft or evaluation block",
                )
            return self
        if self.script is not None:
            raise FieldFault("script", "a script block needs method: script")
        if self.model is None:
            raise FieldFault("model", f"method {self.method} needs a model block")
        if self.dataset is None:
            raise FieldFault("dataset", f"method {self.method} needs a dataset block")
        if self.training.max_steps is None and self.training.num_train_epochs is None:
            raise FieldFault("training", "training needs max_steps or num_train_epochs")
        return self

    @model_validator(mode="after")
    def _method_can_do_what_is_asked(self) -> Self:
        if self.method in ONLINE_METHODS and self.online is None:
            raise FieldFault(
                "online",
                f"method {self.method} needs an online block that names a reward_model; "
                "train one with method reward, or submit a job of type rlhf, which does both",
            )
        if self.dataset is not None:
            require_fitting(self.method, self.dataset)
        _require_own_settings(self.method, self.training, self.preference)
        _require_spread(self.method, self.distributed)
        return self

    @model_validator(mode="after")
    def _evaluation_fits_the_method(self) -> Self:
        if self.evaluation is None:
            return self
        if self.method == REWARD_METHOD:
            raise FieldFault(
                "evaluation",
                "method reward takes no evaluation block: suites are for models that write; "
                "its accuracy on held-out pairs is measured by its training",
            )
        if self.evaluation.judges_training and self.method == "sft":
            raise FieldFault(
                "evaluation.gates",
                f"gate {POLICY_KL!r} needs method dpo, kto, ppo or grpo: sft has no reference",
            )
        if METHOD_FORMATS[self.method][0] not in TEXT_FORMATS and self.method not in ONLINE_METHODS:
            refuse_text_suites(self.evaluation, METHOD_FORMATS[self.method][0])
        return self


def require_fitting(method: str, dataset: DatasetBlock) -> None:
    """Hold the shape that a spec expects against its method.

    Raises:
        ValueError: the method doesn't learn from such rows.
    """
    fitting = METHOD_FORMATS.get(method)
    if dataset.format is not None and fitting is not None and dataset.format not in fitting:
        raise FieldFault(
            "dataset.format",
            f"method {method} learns from {' or '.join(fitting)} data, "
            f"and dataset.format is {dataset.format}",
        )


def refuse_text_suites(evaluation: EvaluationBlock, data_format: str) -> None:
    """Refuse the suites that are made from rows to imitate, where the data has none.

    Raises:
        ValueError: there is one.
    """
    own = [name for name in evaluation.suite_names if name in BUILT_IN_SUITES]
    if own:
        raise FieldFault(
            "evaluation.suites",
            f"suite {own[0]} is made from {', '.join(TEXT_FORMATS)} data, and this is {data_format}: "
            "use safety, a suite of your own, or an eval_only job over other data",
        )


def _require_own_settings(method: str, training: TrainingBlock, preference: PreferenceBlock | None) -> None:
    """Refuse settings that a method would pass over in silence."""
    if training.eval_steps is not None and method != "sft":
        raise FieldFault(
            "training.eval_steps", f"training.eval_steps is for method sft; leave it out with {method}"
        )
    if method not in ("sft", "script"):
        for name in ("packing", "assistant_only_loss", "completion_only_loss"):
            if getattr(training, name):
                raise FieldFault(
                    f"training.{name}", f"training.{name} is for method sft; leave it out with {method}"
                )
    if preference is None:
        return
    if method == "kto" and preference.loss_type != "sigmoid":
        raise FieldFault(
            "preference.loss_type", "preference.loss_type is for method dpo; kto has its own loss"
        )
    if method == "dpo" and (preference.desirable_weight, preference.undesirable_weight) != (1.0, 1.0):
        raise FieldFault(
            "preference", "preference.desirable_weight and undesirable_weight are for method kto"
        )


def _require_spread(method: str, distributed: DistributedBlock) -> None:
    if method == "ppo" and distributed.strategy != "none":
        raise FieldFault(
            "distributed.strategy",
            "method ppo trains in one process: distributed.strategy must be none, or use grpo",
        )


class EvalOnlySpec(JobBase):
    """Evaluation of a model, with no training."""

    type: Literal["eval_only"]
    model: ModelBlock | None = None
    endpoint: EndpointBlock | None = None
    """A model behind an api, in place of `model`."""
    dataset: DatasetBlock | None = None
    """What the suites `heldout` and `choices` are made from."""
    evaluation: EvaluationBlock
    max_length: Annotated[int, Field(ge=8)] = 512

    @model_validator(mode="after")
    def _has_one_model(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise FieldFault("model", "give model or endpoint, one of the two")
        if self.endpoint is not None and self.endpoint.secret not in (None, *self.secrets):
            raise FieldFault(
                "endpoint.secret", "endpoint.secret must be among secrets, so that the job gets it"
            )
        return self

    @model_validator(mode="after")
    def _gates_name_what_is_measured(self) -> Self:
        if self.evaluation.judges_training:
            raise FieldFault(
                "evaluation.gates", f"gate {POLICY_KL!r} is measured by training, and this job has none"
            )
        return self

    @model_validator(mode="after")
    def _built_in_suites_have_what_they_need(self) -> Self:
        own = [name for name in self.evaluation.suite_names if name in BUILT_IN_SUITES]
        if own and self.dataset is None:
            raise FieldFault("dataset", f"suite {own[0]} needs a dataset block")
        if own and self.endpoint is not None:
            raise FieldFault("endpoint", f"suite {own[0]} needs likelihoods, which an endpoint doesn't give")
        return self


class HpoSpec(JobBase):
    """A search over hyperparameters; every trial is a fine-tune of its own."""

    type: Literal["hpo"]
    search: SearchBlock
    trial: FineTuneSpec
    """The fine-tune that each trial starts from; the search's values replace its fields."""


class RetrainSpec(JobBase):
    """A fine-tune that a schedule, drift or falling performance starts, rolled out step by step."""

    type: Literal["retrain"]
    trigger: TriggerBlock
    template: FineTuneSpec
    rollout: RolloutBlock = RolloutBlock()


class RlhfSpec(JobBase):
    """Preferences, a reward model, a policy trained against it, and a safety check at the end.

    Each stage is a job of its own with this job's resources, checkpoints and spread, and with the limits of
    its stage. The policy is registered, and only where its gates and the safety check let it pass.
    """

    type: Literal["rlhf"]
    model: ModelBlock
    """The model that is trained: policy, reference, and what the reward model starts from."""
    dataset: DatasetBlock
    """Preference pairs; for kto unpaired preferences. The pairs' prompts are what ppo and grpo answer."""
    reward_model: RewardModelBlock | None = None
    """For ppo and grpo, which need it; dpo and kto learn from the preferences themselves and take none."""
    policy: PolicyBlock
    safety: SafetyBlock = SafetyBlock()
    evaluation: EvaluationBlock | None = None
    """Suites beside `safety`, with their gates, and settings such as canaries and judges."""
    peft: LoraBlock | None = None
    training: TrainingBlock = TrainingBlock()
    """Of both stages. Steps are `reward_model.max_steps` and `policy.max_steps`."""
    checkpoint: CheckpointBlock = CheckpointBlock()
    distributed: DistributedBlock = DistributedBlock()
    register_as: RegisterBlock | None = None
    """Unset: the policy is registered under the job's name."""

    @property
    def stage_limits(self) -> dict[str, LimitsBlock]:
        """Stage -> its limits, in the order in which they run. Their runtimes are what is reserved."""
        policy = {"policy": self.policy.limits or self.limits}
        if self.reward_model is None:
            return policy
        return {"reward_model": self.reward_model.limits or self.limits, **policy}

    @model_validator(mode="after")
    def _reward_model_where_it_is_used(self) -> Self:
        online = self.policy.method in ONLINE_METHODS
        if online and self.reward_model is None:
            raise FieldFault("reward_model", f"policy method {self.policy.method} needs a reward_model block")
        if not online and self.reward_model is not None:
            raise FieldFault(
                "reward_model",
                f"policy method {self.policy.method} learns from the preferences themselves: "
                "leave reward_model out, or use ppo or grpo",
            )
        policy = self.register_as.model_name if self.register_as else self.name
        if self.reward_model is not None and self.reward_model.model_name == policy:
            raise FieldFault(
                "reward_model.model_name",
                f"reward_model.model_name {policy} is where the policy is registered: what scores and what "
                "writes are no versions of one model; name another, or leave it out",
            )
        return self

    @model_validator(mode="after")
    def _data_fits(self) -> Self:
        require_fitting(REWARD_METHOD if self.reward_model else self.policy.method, self.dataset)
        if self.evaluation is not None:
            refuse_text_suites(self.evaluation, METHOD_FORMATS[self.policy.method][0])
        return self

    @model_validator(mode="after")
    def _settings_mean_something(self) -> Self:
        if (name := next(iter(self.policy.misplaced()), None)) is not None:
            raise FieldFault(
                f"policy.{name}", f"policy.{name} means nothing to method {self.policy.method}; leave it out"
            )
        if self.policy.method in PREFERENCE_METHODS and self.policy.beta <= 0:
            raise FieldFault("policy.beta", f"policy method {self.policy.method} needs beta > 0")
        if self.training.max_steps is not None or self.training.num_train_epochs is not None:
            raise FieldFault(
                "training",
                "steps are reward_model.max_steps and policy.max_steps; leave them out of training",
            )
        _require_own_settings(self.policy.method, self.training, None)
        _require_spread(self.policy.method, self.distributed)
        return self


JobSpec = Annotated[
    FineTuneSpec | HpoSpec | RetrainSpec | RlhfSpec | EvalOnlySpec, Field(discriminator="type")
]
JobType = Literal["fine_tune", "hpo", "retrain", "rlhf", "eval_only"]
JOB_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
SPEC_CLASSES: dict[str, type[JobBase]] = {
    "fine_tune": FineTuneSpec,
    "hpo": HpoSpec,
    "retrain": RetrainSpec,
    "rlhf": RlhfSpec,
    "eval_only": EvalOnlySpec,
}
