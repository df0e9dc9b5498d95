"""What is said about uploads and ingests."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from steelyard.specs.base import Message, Spec
from steelyard.specs.datasets import DatasetSpec, DatasetVersionView
from steelyard.specs.views import ErrorBody

_REF = r"^[a-z0-9][a-z0-9._-]*(@v[1-9][0-9]*)?$"


class IngestRequest(Spec):
    """Which uploads become the next version of a dataset, and how."""

    uploads: Annotated[list[str], Field(max_length=10_000)] = []
    """Ids of uploads of the same project."""
    names: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=10_000)] = {}
    """Upload -> what messages and reports call it; its filename, if left out."""
    uris: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=100)] = []
    """`s3://BUCKET/PREFIX` and `hf://datasets/OWNER/NAME[@REVISION]`, as far as the operator allows them."""
    spec: DatasetSpec = DatasetSpec()
    append_to: Annotated[str, Field(pattern=_REF)] | None = None
    """A version whose rows come along: the new version is its child. A bare name means its newest."""
    decontaminate: bool = True
    """Drop rows that overlap with any evaluation suite that the project can see."""

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if not self.uploads and not self.uris:
            raise ValueError("name uploads, uris, or both")
        return self


class MixPart(Spec):
    """A version's share in a mix."""

    ref: Annotated[str, Field(pattern=_REF)]
    weight: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0


class DeriveRequest(Spec):
    """A child of versions that are there: the rows that a condition holds for, or a mix by weights."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"parent": "support-chats@v3", "where": "words > 20 AND turns >= 2"}]}
    )

    parent: Annotated[str, Field(pattern=_REF)] | None = None
    """The version to filter."""
    where: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """An SQL condition over the columns of text, and `all_text`, `chars`, `words` and `turns`."""
    mix: Annotated[list[MixPart], Field(max_length=100)] = []
    """Versions to mix, each with its weight. No row is repeated."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """At most so many rows of a mix, both splits together; unset: as many as the weights allow."""
    decontaminate: bool = True
    """Drop rows that overlap with any evaluation suite that the project sees now."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if bool(self.mix) == (self.parent is not None):
            raise ValueError("give parent and where, or mix")
        if self.mix and len(self.mix) < 2:
            raise ValueError("a mix needs two versions or more")
        if (self.parent is None) != (self.where is None):
            raise ValueError("a filter needs both parent and where")
        if self.rows is not None and not self.mix:
            raise ValueError("rows bounds a mix")
        return self


class UploadView(Message):
    """A file that the platform has."""

    id: str
    filename: str
    size_bytes: int
    digest: str


class UploadOrder(Spec):
    """A file that will come in parts. Asked for again, it is taken up where it was."""

    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
    size_bytes: Annotated[int, Field(ge=1)]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    """Of the whole file."""


class UploadState(Message):
    """How much of an upload is there."""

    id: str
    filename: str
    size_bytes: int
    digest: str
    state: Literal["receiving", "complete"]
    part_size_bytes: int | None
    """Of every part but the last; parts count from 1."""
    parts: list[int]
    """Numbers of the parts that are there."""


class IngestProgress(Message):
    """Pieces of work of the present pass."""

    stage: str
    done: int
    total: int
    rows: int = 0
    note: str | None = None
    """Why the last try broke off, while the next one is to come."""


class IngestView(Message):
    """An ingest, as it is now."""

    id: str
    name: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: IngestProgress | None
    error: ErrorBody | None
    version: DatasetVersionView | None
    """The version that it made or found, once it has succeeded."""
    created_at: datetime


class DatasetDeletion(Message):
    """What became of a version that was deleted."""

    ref: str
    outcome: Literal["gone", "tombstone"]
    """`tombstone`: something refers to it, so its digest and manifest stay, and no new job takes it."""
    kept_for: str | None = None
    """What refers to it."""


class DatasetSummary(Message):
    """A dataset by name."""

    name: str
    latest_version: int
    created_at: datetime


class RowsView(Message):
    """The first rows of a version, in TRL's columns."""

    data: list[dict[str, Any]]
