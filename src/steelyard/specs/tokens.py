"""What is said about tokenized caches: rows of a dataset version as token ids, made once for many jobs."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from steelyard.kit.canonical import digest_json
from steelyard.specs.base import Message
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.run import DatasetFiles

CACHE_FORM = 1
"""Goes up when the same settings give other files."""


class TokenSettings(Message):
    """All that token ids and labels depend on, and nothing else. Equal settings give equal files."""

    form: int = CACHE_FORM
    dataset_digest: str
    format: DatasetFormat
    tokenizer_digest: str
    template_digest: str | None
    """None where the rows are no conversations."""
    max_length: int
    overlong: Literal["error", "truncate", "drop"]
    packing: bool
    assistant_only_loss: bool
    completion_only_loss: bool
    libraries: dict[str, str]
    """Versions of what tokenizes and packs."""

    def key(self) -> str:
        """Return `sha256:<hex>`, which the cache is found by."""
        return digest_json(self.model_dump(mode="json"))


class TokenSummary(Message):
    """What came of the rows of a split."""

    rows_in: Annotated[int, Field(ge=0)] = 0
    rows_kept: int = 0
    rows_overlong: int = 0
    """Longer than `max_length`, whether cut or dropped."""
    longest: int = 0
    """Tokens of the longest row."""
    tokens: int = 0
    """Of the rows that were kept."""
    loss_tokens: int = 0
    """Those that are learned."""
    sequences: int = 0
    """Rows kept, or, packed, what they were packed into."""

    def plus(self, other: "TokenSummary") -> "TokenSummary":
        """Return the two together."""
        values = {
            name: getattr(self, name) + getattr(other, name)
            for name in TokenSummary.model_fields
            if name != "longest"
        }
        return TokenSummary(**values, longest=max(self.longest, other.longest))


def refuse_share(summary: TokenSummary, training: TrainingBlock) -> str | None:
    """Return why so many overlong rows are too many, as a sentence, or None where they are not."""
    share = summary.rows_overlong / max(1, summary.rows_in)
    if share <= training.max_overlong_share:
        return None
    return (
        f"{summary.rows_overlong} of {summary.rows_in} rows ({share:.1%}) have more than training.max_length "
        f"{training.max_length} tokens, the longest {summary.longest}; training.max_overlong_share tolerates "
        f"{training.max_overlong_share:.1%}. Raise either, or filter the dataset."
    )


class TokenOrder(Message):
    """The orders of the process that makes a cache."""

    folder: str
    """Where the finished cache will be; work goes on beside it."""
    model_path: str
    model_name: str
    chat_template: str | None
    dataset: DatasetFiles
    training: TrainingBlock
    workers: Annotated[int, Field(ge=1)]


class TokenProgress(Message):
    """How far the making is."""

    done: int
    total: int


class TokenCacheView(Message):
    """A tokenized cache of a dataset version."""

    key: str
    digest: str
    """Of its files; the lineage of every job that read it has it."""
    dataset_digest: str
    tokenizer: str
    """The model whose tokenizer it is."""
    tokenizer_digest: str
    template_digest: str | None
    max_length: int
    overlong: Literal["error", "truncate", "drop"]
    packing: bool
    assistant_only_loss: bool
    completion_only_loss: bool
    rows: int
    """Rows kept."""
    rows_in: int
    rows_overlong: int
    dropped_share: float
    """Rows that were dropped, of all."""
    sequences: int
    tokens: int
    loss_tokens: int
    size_bytes: int
    made_at: datetime
    last_used_at: datetime
