"""What the API answers about models."""

from datetime import datetime
from typing import Literal

from steelyard.specs.base import Message

BUILTIN_MODELS = ("builtin/tiny-random", "builtin/smollm2-135m-instruct")
"""Models that need no network."""
ModelKind = Literal["model", "reward_model"]
"""A `model` writes texts. A `reward_model` scores them, and no alias points to it."""


class ModelView(Message):
    """A name under which versions are registered."""

    name: str
    latest_version: int
    aliases: dict[str, int] = {}
    """Which version each of `dev`, `staging` and `prod` points to."""
    created_at: datetime


class ModelVersionView(Message):
    """One trained model, with what it was made of."""

    name: str
    version: int
    kind: ModelKind = "model"
    job_id: str
    manifest_digest: str
    path: str
    """Folder of the files, on the server."""
    lineage: dict[str, str]
    dataset_report: str | None = None
    """Path of the page about the data, on the api."""
    metrics: dict[str, float]
    mlflow_version: str | None
    """Version number in MLflow's registry; None while it is still to be mirrored."""
    aliases: list[str] = []
    """Those that point to it."""
    created_at: datetime
