"""What is said about uploads and ingests."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from steelyard.specs.base import Message, Spec
from steelyard.specs.datasets import DatasetSpec, DatasetVersionView
from steelyard.specs.views import ErrorBody


class IngestRequest(Spec):
    """Which uploads become the next version of a dataset, and how."""

    uploads: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    """Ids of uploads of the same project."""
    spec: DatasetSpec = DatasetSpec()
    append_to: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*(@v[1-9][0-9]*)?$")] | None = None
    """A version whose rows come along: the new version is its child. A bare name means its newest."""


class UploadView(Message):
    """A file that the platform has."""

    id: str
    filename: str
    size_bytes: int
    digest: str


class IngestProgress(Message):
    """Pieces of work of the present pass."""

    stage: str
    done: int
    total: int
    rows: int = 0


class IngestView(Message):
    """An ingest, as it is now."""

    id: str
    name: str
    state: Literal["queued", "running", "succeeded", "failed"]
    progress: IngestProgress | None
    error: ErrorBody | None
    version: DatasetVersionView | None
    """The version that it made or found, once it has succeeded."""
    created_at: datetime


class DatasetSummary(Message):
    """A dataset by name."""

    name: str
    latest_version: int
    created_at: datetime


class RowsView(Message):
    """The first rows of a version, in TRL's columns."""

    data: list[dict[str, Any]]
