"""What the API answers with. Lists hold `JobSummary`; a single job is a `JobView`."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from steelyard.specs.base import Message
from steelyard.specs.budgets import JobCost, PlanCost
from steelyard.specs.gates import Judgement
from steelyard.specs.pool import PlanQuota
from steelyard.specs.states import JobState
from steelyard.specs.trials import TrialView


class ErrorBody(Message):
    """The inside of every error answer."""

    type: str
    """Class of error: `invalid_request_error`, `authentication_error`, `not_found_error`, ..."""
    code: str
    message: str
    param: str | None = None
    request_id: str | None = None
    details: dict[str, Any] = {}


class ErrorResponse(Message):
    """The one shape of all errors, 422 included."""

    error: ErrorBody


class Progress(Message):
    """How far a job is. Seconds and tokens per second are of the present attempt."""

    phase: str | None = None
    step: int = 0
    total_steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class AttemptView(Message):
    """One launch of a job's work."""

    id: str
    number: int
    stage: Literal["train", "evaluate"]
    epoch: int
    state: Literal["starting", "running", "stopping", "ended"]
    executor: str
    node: str | None
    pid: int | None
    """Process id of the trainer, where the executor is local."""
    resumed_from_step: int | None
    first_step: int | None
    last_step: int
    cause: str | None
    """Why it ended: `completed`, `preempted`, `process_killed`, ..."""
    message: str | None
    counted: bool
    """Whether it used up one of `limits.max_retries`."""
    gpu_seconds: float
    gpu_utilisation: float | None = None
    """Part of the time in which its GPUs worked, 0 to 1, as it reported last; None: nobody measures it."""
    started_at: datetime
    ended_at: datetime | None


class CheckpointView(Message):
    """A published checkpoint."""

    id: str
    step: int
    attempt_number: int
    path: str
    manifest_digest: str
    size_bytes: int
    status: Literal["uploading", "available", "damaged", "deleted"]
    """`uploading`: on its node's disk, not in the bucket yet; nothing resumes from it."""
    created_at: datetime


class JobSummary(Message):
    """A line of a list."""

    id: str
    project: str
    name: str
    type: str
    state: JobState
    status_reason: str | None
    status_message: str | None
    priority: int
    progress: Progress
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime


class ModelVersionRef(Message):
    """The model version that a job made."""

    name: str
    version: int
    manifest_digest: str
    mlflow_url: str | None = None


class JobView(JobSummary):
    """A job, whole."""

    spec: dict[str, Any]
    lineage: dict[str, str]
    """Digests fixed at submission: dataset, config, code, base model, environment."""
    dataset_report: str | None = None
    """Path of the page about the data, on the api."""
    attempts: list[AttemptView]
    retries_used: int
    metrics: dict[str, float]
    """Final figures, such as `base/heldout/loss` and `tuned/heldout/loss`."""
    model: ModelVersionRef | None
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None
    cost: JobCost | None = None
    """So far. Not there in the answer to a submission or a command."""
    parent: str | None = None
    """The search or pipeline that made it."""
    children: dict[str, int] | None = None
    """Of a search or pipeline: how many of the jobs that it has made are in which state. Of those that were
    cancelled, the ones that a search stopped early count as `pruned`."""
    best: TrialView | None = None
    """Of a search: the best trial so far. Not there in the answer to a submission or a command."""
    gates: Judgement | None = None
    """What the gates said, each with its numbers. None before they were judged in this run."""


class EventView(Message):
    """Something that happened to a job; the same object in lists and in server-sent events."""

    id: int
    created_at: datetime
    level: Literal["info", "warn", "error"]
    type: str
    message: str
    data: dict[str, Any]


class PlanView(Message):
    """What a submission would do."""

    valid: bool
    spec: dict[str, Any]
    lineage: dict[str, str]
    fits: bool
    """Whether some node could ever hold it."""
    would_start_now: bool
    queue_position: int
    max_gpu_hours: float
    """Upper bound: gpus x max runtime."""
    messages: list[str]
    cost: PlanCost | None = None
    """What it would reserve, and what that does to the budget."""
    quotas: list[PlanQuota] = []
    """What it would do to the project's quotas, a flavor each; none for a job without GPUs."""


class ExplainView(Message):
    """Why a job is where it is, and what would move it."""

    id: str
    state: JobState
    status_reason: str | None
    summary: str
    queue_position: int | None
    waiting_for: list[str]
    """What would free it, one sentence each."""
    attempts: list[str]
    """What each restart was for and what it cost, one sentence each."""
    cost: JobCost | None = None
    """So far."""


Item = TypeVar("Item")


class ListView(BaseModel, Generic[Item]):
    """A short list that has no pages."""

    model_config = ConfigDict(frozen=True)
    data: list[Item]
