"""What the API answers about lineage: checks of a model, and the graph around it."""

from typing import Literal

from steelyard.specs.base import Message

CheckStatus = Literal["ok", "differs", "missing", "changed_since"]
"""`changed_since`: a fact of then that can't be computed anew, such as the installed software."""
NodeKind = Literal["model", "job", "dataset", "base_model"]
Relation = Literal["trained", "used", "based_on", "derived_from", "repeats", "made"]


class LineageCheck(Message):
    """One digest, as it was sealed and as it is."""

    subject: str
    """What was looked at: `files`, `statement`, `config`, `dataset`, `base_model`, `code`..."""
    status: CheckStatus
    sealed: str | None = None
    found: str | None = None
    message: str = ""


class ModelVerification(Message):
    """All checks of one version. `verified` where none differs and nothing is missing."""

    name: str
    version: int
    verified: bool
    checks: list[LineageCheck]


class WeightsComparison(Message):
    """A model that was made again, beside the one that it repeats."""

    job_id: str
    identical: bool
    sealed_digest: str
    found_digest: str
    differing_files: list[str]


class LineageNode(Message):
    """Something that models are made of, or that was made of them."""

    id: str
    """Unique in a graph: `model:demo@1`, `dataset:chats@v3`."""
    kind: NodeKind
    label: str
    digest: str | None = None
    report: str | None = None
    """Of a dataset: path of the page about it, on the api."""


class LineageEdge(Message):
    """`source` went into `target`, or made it."""

    source: str
    target: str
    relation: Relation


class LineageGraph(Message):
    """What lies within so many hops of the root."""

    root: str
    hops: int
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    truncated: bool = False
    """Whether there was more than a graph may hold."""
