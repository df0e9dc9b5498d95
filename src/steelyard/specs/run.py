"""`run.json`: all that a training process is told. It holds no secret; the token is in a file beside it."""

from typing import Literal

from steelyard.kit.tls import TlsClient
from steelyard.specs.base import Message
from steelyard.specs.blocks import DatasetFormat
from steelyard.specs.evaluations import EvaluationOrders
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec

RUN_NAME = "run.json"
SECRETS_NAME = "secrets"
"""Folder of the job's secrets beside `run.json`; a file of mode 0600 each."""
TOKEN_NAME = "token"  # noqa: S105 - a file name


class DatasetFiles(Message):
    """The rows, as JSON Lines files in TRL's canonical columns."""

    digest: str
    format: DatasetFormat
    train: list[str]
    """Absolute paths, in order."""
    validation: list[str]


class TokenFiles(Message):
    """A tokenized cache of the training rows. Where it isn't whole, the trainer tokenizes them itself."""

    folder: str
    """Absolute. Its manifest names its files."""
    digest: str


class TrackingTarget(Message):
    """The MLflow run that figures go to."""

    uri: str
    run_id: str | None
    """None where MLflow was not up in time: the trainer spools, the platform catches up."""


class RunConfig(Message):
    """One attempt's orders. Paths are absolute on the node that runs it."""

    version: Literal[1] = 1
    stage: Literal["train", "evaluate"]
    project: str
    job_id: str
    job_name: str
    attempt_id: str
    attempt_number: int
    epoch: int
    spec: FineTuneSpec | EvalOnlySpec
    job_dir: str
    """The job's folder. Checkpoints go to `<job_dir>/checkpoints/e<epoch, 5 digits>/step-<8 digits>`,
    the finished model to `<job_dir>/models/e<epoch>`."""
    attempt_dir: str
    """This attempt's own folder: run.json, token, log, outcome.json, metrics.jsonl."""
    model_path: str | None
    """The base model, as a local folder."""
    model_revision: str | None = None
    base_adapter: str | None = None
    """Stage evaluate: the adapter that lies on `model_path`, where the spec's model is one."""
    reward_model_path: str | None = None
    """Methods ppo and grpo: the reward model, as a folder of a whole sequence classifier with one label and
    its tokenizer."""
    tuned_model_dir: str | None = None
    """Stage evaluate after training: the finished model, to be set beside the base."""
    dataset: DatasetFiles | None
    tokens: TokenFiles | None = None
    """Stage train: `dataset.train` as token ids, where the platform has made them."""
    evaluation: EvaluationOrders | None = None
    """Stage evaluate: the cells to measure."""
    resume_from: str | None
    """A checkpoint folder whose manifest was verified when the attempt was made."""
    api_url: str | None
    tls: TlsClient | None = None
    """How to reach `api_url` and `tracking` where they speak HTTPS with an authority of their own."""
    tracking: TrackingTarget | None
    report_interval_seconds: float = 1.0
    lease_seconds: float = 30.0
    threads: int = 1
