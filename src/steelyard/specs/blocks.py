"""Blocks that the job specs are made of. Field names inside a block are TRL's and Hugging Face's."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from steelyard.specs.base import Name, Spec
from steelyard.specs.evaluations import SuiteRef, suite_name
from steelyard.specs.gates import POLICY_KL, Gate
from steelyard.specs.safety import SafetySettings, is_safety_suite, why_not_runnable
from steelyard.specs.secrets import SecretName

PositiveInt = Annotated[int, Field(ge=1)]
DatasetFormat = Literal["messages", "prompt_completion", "text", "preference", "unpaired_preference"]
"""Shapes of rows, in TRL's canonical columns."""


class ModelBlock(Spec):
    """The base model that training starts from or evaluation looks at."""

    name_or_path: Annotated[str, Field(min_length=1, max_length=1024)]
    """A Hugging Face id, a folder on the server, a registered `models/NAME@VERSION`, or a
    `builtin/...` model that needs no network."""
    revision: str | None = None
    """A branch, tag or commit of a Hugging Face id; pinned to a commit when the job is prepared."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of the weights in memory. Unset: float32 on CPU, bfloat16 on CUDA."""
    chat_template: str | None = None
    """A Jinja chat template that replaces the tokenizer's own."""


class DatasetBlock(Spec):
    """The data, as a version in the platform's catalogue."""

    ref: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*(@v[1-9][0-9]*)?$")]
    """`name@vN`, or a bare `name`, which is pinned to its newest version at submission."""
    format: Literal["messages", "prompt_completion", "text", "preference", "unpaired_preference"] | None = (
        None
    )
    """The shape that the job expects; refused at submission where the dataset has another."""


class LoraBlock(Spec):
    """Low-rank adapters in place of full fine-tuning."""

    type: Literal["lora"] = "lora"
    r: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of the update."""
    lora_alpha: Annotated[int, Field(ge=1)] = 16
    """Scale of the update; the factor applied is `lora_alpha / r`."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules that get an adapter."""


class TrainingBlock(Spec):
    """The optimisation itself."""

    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 2.0e-4
    max_steps: PositiveInt | None = None
    """Optimizer steps. Give this or `num_train_epochs`, not both."""
    num_train_epochs: Annotated[float, Field(gt=0.0)] | None = None
    per_device_train_batch_size: PositiveInt = 4
    gradient_accumulation_steps: PositiveInt = 1
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    max_length: Annotated[int, Field(ge=8)] = 512
    """Tokens per example."""
    overlong: Literal["error", "truncate", "drop"] = "error"
    """What happens to an example of more than `max_length` tokens."""
    max_overlong_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of rows that may be overlong where they are truncated or dropped; with more, the job fails."""
    packing: bool = False
    assistant_only_loss: bool = False
    """Loss on the assistant's turns alone; needs a chat template with generation marks."""
    completion_only_loss: bool | None = None
    """Loss on completions alone; unset means yes for prompt and completion data."""
    gradient_checkpointing: bool = False
    logging_steps: PositiveInt = 1
    eval_steps: PositiveInt | None = None
    """Steps between two looks at the validation split (method sft): the loss of a token there, `eval/loss`.
    The last step is looked at too. Unset: never."""
    eval_max_samples: PositiveInt = 100
    """Rows of the validation split that such a look reads: the first by content hash."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.max_steps is not None and self.num_train_epochs is not None:
            raise ValueError("give max_steps or num_train_epochs, not both")
        return self


class CheckpointBlock(Spec):
    """How often training is saved. At most one interval of work is ever repeated."""

    save_steps: PositiveInt = 50
    save_total_limit: Annotated[int, Field(ge=2, le=100)] = 3
    """Newest checkpoints kept; at least two, so that a damaged one has one before it."""


class DistributedBlock(Spec):
    """How one attempt spreads over processes and nodes."""

    strategy: Literal["none", "ddp", "fsdp"] = "none"
    num_nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = 1

    @model_validator(mode="after")
    def _processes_need_a_strategy(self) -> Self:
        if self.strategy == "none" and self.num_nodes * self.processes_per_node > 1:
            raise ValueError("more than one process needs strategy ddp or fsdp")
        return self


class ResourcesBlock(Spec):
    """What one node of an attempt is given."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """Cores granted. Trainers run with as many compute threads and no more."""
    memory_gb: Annotated[float, Field(gt=0.0)] = 2.0
    flavors: Annotated[list[Name], Field(max_length=16)] = []
    """Kinds of nodes that will do, the best first. Empty: any, the cheapest first."""
    spot: Literal["never", "prefer", "only"] = "never"
    """Whether it runs on capacity that can be taken back at short notice. `prefer`: there first, else on
    demand, and its last retry on demand alone. Specs of before say true (`prefer`) or false (`never`)."""
    max_price_per_gpu_hour: Annotated[float, Field(ge=0.0)] | None = None
    """It waits for GPUs that cost no more, in the installation's currency. Unset: at any price."""

    @field_validator("spot", mode="before")
    @classmethod
    def _upgrade_spot(cls, value: object) -> object:
        return upgrade_spot(value)


def upgrade_spot(value: object) -> object:
    """Return the word for what specs said before there were three choices: true or false."""
    if isinstance(value, bool):
        return "prefer" if value else "never"
    return value


class LimitsBlock(Spec):
    """Bounds on a job's life."""

    max_runtime_seconds: Annotated[int, Field(ge=1)] = 24 * 3600
    """Seconds of running over all attempts, waiting not counted."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Launches after a failure. Preemption and eviction don't count."""
    stop_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """Time a trainer has to reach a step's end and save before it is killed."""


class EvaluationBlock(Spec):
    """What is measured, before and after training."""

    suites: Annotated[list[SuiteRef], Field(min_length=1, max_length=64)]
    """`heldout`: loss per token and perplexity of the validation split. `choices`: each validation prompt
    with its own completion among three others, by likelihood. `NAME` or `NAME@sha256:...`: a suite of the
    project or its organization, pinned at submission. `lm_eval:TASK`: a task of lm-evaluation-harness's
    library, where a hub can be reached. `safety`: all safety probes; `safety/PROBE`: one of them."""
    max_samples: PositiveInt = 200
    """Samples used of each task: of the validation split the first by content hash, else the first."""
    num_fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    """Examples before each question, in suites of tasks. Unset: as each task says."""
    apply_chat_template: bool = False
    """Put each question of a task as a user's turn."""
    batch_size: PositiveInt = 16
    """Sequences that a task's requests are run with at once. It changes no figure but by rounding."""
    use_cache: bool = True
    """Take the result of an equal evaluation that is there already."""
    safety: SafetySettings = SafetySettings()
    """What the safety suites are given: canaries, and judges that need weights."""
    gates: list[Gate] = []

    @property
    def suite_names(self) -> list[str]:
        """The suites without their digests: what metrics are named by."""
        return [suite_name(ref) for ref in self.suites]

    @property
    def judges_training(self) -> bool:
        """Whether a gate names what no suite measures, but the training of a policy."""
        return any(gate.metric == POLICY_KL and gate.suite not in self.suite_names for gate in self.gates)

    @model_validator(mode="after")
    def _suites_are_named_once(self) -> Self:
        if len(set(self.suite_names)) != len(self.suites):
            raise ValueError("suites names a suite twice")
        return self

    @model_validator(mode="after")
    def _safety_has_what_it_needs(self) -> Self:
        for name in filter(is_safety_suite, self.suite_names):
            if (why := why_not_runnable(name, self.safety)) is not None:
                raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _gates_name_suites(self) -> Self:
        for gate in self.gates:
            if gate.suite not in self.suite_names and gate.metric != POLICY_KL:
                raise ValueError(f"gate {gate.metric!r} names a suite that is not in suites")
        return self


class EndpointBlock(Spec):
    """A model behind an OpenAI-compatible api. It gives no likelihoods: only tasks that generate can run."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=1024)]
    """Its base, such as `https://models.example.org/v1`; `/chat/completions` is added."""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    secret: SecretName | None = None
    """The project's secret that holds the key; it must be among the job's `secrets` too."""
    timeout_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = 60.0
    max_tokens: PositiveInt = 256
    """Longest answer, where the task names none."""


class ScriptBlock(Spec):
    """One's own training script, which talks to the platform through `steelyard.runtime`."""

    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.py$")]
    source: Annotated[str, Field(min_length=1, max_length=512 * 1024)]
    """The script's text; it is part of the job's lineage. The CLI fills it in from `path`."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None = None
    """The git commit that the script's folder was at. The CLI fills it in."""
    diff_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Digest of `git diff HEAD` there, where something was changed since the commit."""
    args: list[str] = []
    """Arguments. Never a secret: they can be read in the process list."""


class RegisterBlock(Spec):
    """Where the trained model is registered."""

    model_name: Name
