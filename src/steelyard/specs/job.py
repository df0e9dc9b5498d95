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
    """Supervised fine-tuning, by the platform's trainer (`sft`) or one's own (`script`)."""

    type: Literal["fine_tune"]
    method: Literal["sft", "script"] = "sft"
    model: ModelBlock | None = None
    dataset: DatasetBlock | None = None
    peft: LoraBlock | None = None
    """Unset: all weights are trained."""
    training: TrainingBlock = TrainingBlock()
    checkpoint: CheckpointBlock = CheckpointBlock()
    distributed: DistributedBlock = DistributedBlock()
    evaluation: EvaluationBlock | None = None
    script: ScriptBlock | None = None
    register_as: RegisterBlock | None = None
    """Unset: the model is registered under the job's name."""

    @model_validator(mode="after")
    def _method_has_its_blocks(self) -> Self:
        if self.method == "script":
            if self.script is None:
                raise ValueError("method script needs a script block")
            if self.peft is not None or self.evaluation is not None:
                raise ValueError("method script takes no peft or evaluation block")
            return self
        if self.script is not None:
            raise ValueError("a script block needs method: script")
        if self.model is None:
            raise ValueError("method sft needs a model block")
        if self.dataset is None:
            raise ValueError("method sft needs a dataset block")
        if self.training.max_steps is None and self.training.num_train_epochs is None:
            raise ValueError("training needs max_steps or num_train_epochs")
        return self


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
            raise ValueError("give model or endpoint, one of the two")
        if self.endpoint is not None and self.endpoint.secret not in (None, *self.secrets):
            raise ValueError("endpoint.secret must be among secrets, so that the job gets it")
        return self

    @model_validator(mode="after")
    def _built_in_suites_have_what_they_need(self) -> Self:
        own = [name for name in self.evaluation.suite_names if name in BUILT_IN_SUITES]
        if own and self.dataset is None:
            raise ValueError(f"suite {own[0]} needs a dataset block")
        if own and self.endpoint is not None:
            raise ValueError(f"suite {own[0]} needs likelihoods, which an endpoint doesn't give")
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
    """Preferences, a reward model, a policy trained against it, and a safety check at the end."""

    type: Literal["rlhf"]
    model: ModelBlock
    dataset: DatasetBlock
    """Preference pairs."""
    reward_model: RewardModelBlock | None = None
    policy: PolicyBlock
    safety: SafetyBlock = SafetyBlock()
    peft: LoraBlock | None = None
    training: TrainingBlock = TrainingBlock()
    checkpoint: CheckpointBlock = CheckpointBlock()
    distributed: DistributedBlock = DistributedBlock()

    @model_validator(mode="after")
    def _online_needs_reward(self) -> Self:
        if self.policy.method in ("ppo", "grpo") and self.reward_model is None:
            raise ValueError(f"policy method {self.policy.method} needs a reward_model block")
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
