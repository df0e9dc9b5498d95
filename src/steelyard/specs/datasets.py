"""The dataset spec: what ingest reads, which stages run, and with which parameters.

Stages run in the order in which the fields stand. Each has a block; `enabled` turns it on or off.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from steelyard.specs.base import Message, Name, Spec
from steelyard.specs.blocks import DatasetFormat

SourceFormat = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "text",
    "preference",
    "unpaired_preference",
]
"""Shapes that ingest reads. `sharegpt` becomes `messages`, `alpaca` becomes `prompt_completion`."""

SplitName = Literal["train", "validation"]
PiiKind = Literal["email", "phone", "credit_card", "ip_address", "ssn", "iban", "secret"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class ReadingBlock(Spec):
    """How files are read, and what is refused."""

    max_line_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 << 20
    """Longest line or record, in bytes."""
    max_expanded_bytes: Annotated[int, Field(ge=1024)] = 1 << 40
    """Most bytes that one compressed file may expand to."""
    max_expansion: Annotated[float, Field(gt=1.0)] = 1000.0
    """Most bytes that one compressed byte may expand to, over a whole file (a guard against bombs)."""
    max_bad: Fraction = 0.0
    """Share of rows that may break the schema; they are dropped and reported. One more is an error."""


class NormalizeBlock(Spec):
    """Unicode and whitespace."""

    enabled: bool = True
    unicode: Literal["nfc", "nfkc"] | None = "nfc"
    """Unicode normal form that text is brought to."""
    control_characters: bool = True
    """Removes control characters other than tab and newline, and zero-width marks at either end."""
    trailing_whitespace: bool = True
    """Turns CRLF into LF and removes spaces at the ends of lines; around messages and plain texts also
    blank lines. The edges of a prompt or completion in plain text stay, as the two are joined there."""


class LengthBlock(Spec):
    """Drops rows by the number of characters in all their text together."""

    enabled: bool = False
    min_chars: Annotated[int, Field(ge=0)] = 1
    max_chars: Annotated[int, Field(ge=1)] | None = None
    max_turns: Annotated[int, Field(ge=1)] | None = None
    """Most messages of one conversation."""


class LanguageBlock(Spec):
    """Drops rows whose language is none of those kept. Needs the `langid` extra."""

    enabled: bool = False
    keep: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]], Field(min_length=1)] = ["en"]
    """ISO 639-1 codes."""
    min_confidence: Fraction = 0.5


class QualityBlock(Spec):
    """Drops text that looks like noise; the rules are those of Gopher and C4 that hold for short text."""

    enabled: bool = False
    max_repeated_line_fraction: Fraction = 0.5
    """Share of lines that repeat an earlier line of the row."""
    min_letter_fraction: Fraction = 0.4
    """Share of characters other than space that are letters."""
    max_mean_word_length: Annotated[float, Field(gt=0.0)] = 25.0
    max_symbol_word_ratio: Annotated[float, Field(ge=0.0)] = 0.3
    """`#` and ellipses per word."""


class PiiBlock(Spec):
    """Personal data and secrets, found by patterns and check digits."""

    action: Literal["off", "report", "mask", "drop"] = "report"
    kinds: Annotated[list[PiiKind], Field(min_length=1)] = [
        "email",
        "phone",
        "credit_card",
        "ip_address",
        "ssn",
        "iban",
        "secret",
    ]


class PreferenceBlock(Spec):
    """Drops pairs whose chosen and rejected answers are equal."""

    drop_equal: bool = True


class DecontaminationBlock(Spec):
    """Drops rows that share text with the evaluation sets that the caller gives."""

    enabled: bool = True
    ngram_words: Annotated[int, Field(ge=3, le=50)] = 13
    """Words of one n-gram. An evaluation text with fewer is matched whole."""
    min_overlap: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of an evaluation text's n-grams that a row must hold; 0: one is enough."""


class ExactDedupBlock(Spec):
    """Keeps one of rows that are equal after normalisation."""

    enabled: bool = True


class NearDedupBlock(Spec):
    """Keeps one of rows that are nearly equal: MinHash LSH finds candidates, exact Jaccard decides."""

    enabled: bool = True
    threshold: Annotated[float, Field(gt=0.3, le=1.0)] = 0.8
    """Least Jaccard similarity of the sets of word n-grams."""
    ngram_words: Annotated[int, Field(ge=1, le=20)] = 5
    num_perm: Annotated[int, Field(ge=16, le=512)] = 128
    """Values in one MinHash signature."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42


class SplitBlock(Spec):
    """Which rows are held out, by a hash of what is asked, so that one prompt is never in both."""

    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """0: no validation split."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    leak_threshold: Annotated[float, Field(gt=0.3, le=1.0)] | None = 0.7
    """A training row at least so similar to a validation row is dropped. Null: not looked for."""


class StatisticsBlock(Spec):
    """What is counted for the report."""

    tokenizer: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """The model whose tokens are counted: `builtin/...`, a Hugging Face id, or a folder that the operator
    allows. Null: characters and words alone."""


class DatasetSpec(Spec):
    """One ingest, whole. Equal bytes and an equal spec give the same version."""

    api_version: Literal["steelyard/v1"] = "steelyard/v1"
    format: SourceFormat | None = None
    """The shape of the rows. Null: detected, and the same in all files."""
    column_map: dict[str, str] = {}
    """Column in the files -> the name that the shape expects (`question: prompt`)."""
    reading: ReadingBlock = ReadingBlock()
    normalize: NormalizeBlock = NormalizeBlock()
    length: LengthBlock = LengthBlock()
    language: LanguageBlock = LanguageBlock()
    quality: QualityBlock = QualityBlock()
    pii: PiiBlock = PiiBlock()
    preference: PreferenceBlock = PreferenceBlock()
    decontamination: DecontaminationBlock = DecontaminationBlock()
    exact_dedup: ExactDedupBlock = ExactDedupBlock()
    near_dedup: NearDedupBlock = NearDedupBlock()
    split: SplitBlock = SplitBlock()
    statistics: StatisticsBlock = StatisticsBlock()

    @model_validator(mode="after")
    def _map_is_one_to_one(self) -> Self:
        if len(set(self.column_map.values())) != len(self.column_map):
            raise ValueError("column_map maps two columns to one name; give each its own")
        return self


class ShardEntry(Message):
    """One Parquet file of a version."""

    split: SplitName
    rows: int
    size_bytes: int
    digest: str
    """sha256 of the file's bytes; the object's key follows from it."""
    content_digest: str
    """sha256 over the rows' ids in order: the same whatever library wrote the file."""


class StageReport(Message):
    """What one stage did."""

    name: str
    rows_in: int
    rows_kept: int
    rows_dropped: int
    reasons: dict[str, int] = {}
    """Why rows were dropped or changed -> how many."""
    changed: int = 0
    """Rows that were kept but altered."""


class ParentEntry(Message):
    """A version that this one was made from."""

    ref: str
    digest: str
    how: Literal["append", "filter", "mix"]
    weight: float | None = None
    where: str | None = None


class VersionManifest(Message):
    """A dataset version: what its digest covers.

    `digest` is the sha256 of the canonical JSON of all other fields, with the shards' `digest` and
    `size_bytes` left out, so that a newer Parquet library gives the same version; `content_digest`
    covers the rows. `origins` and `left_out` are no part of it: equal rows are the same version wherever they
    came from.
    """

    manifest_version: Literal[1] = 1
    engine: str
    """Version of the rules that made it; another engine may give other rows for the same input."""
    format: DatasetFormat
    columns: list[str]
    spec: DatasetSpec
    evaluation_sets: dict[str, str] = {}
    """Evaluation set -> digest, of those that rows were checked against."""
    parents: list[ParentEntry] = []
    origins: list[str] = []
    """URIs that files were read from when the version was made, pinned to a commit where they can be."""
    left_out: dict[str, int] = {}
    """Column of the files, or field of their messages, that is in no row -> rows that had it."""
    rows_in: int
    rows_kept: int
    rows_train: int
    rows_validation: int
    stages: list[StageReport]
    shards: list[ShardEntry]
    digest: str


class DatasetVersionView(Message):
    """A version as it is shown: `name@vN`, its digest and its counts."""

    name: Name
    version: int
    digest: str
    format: DatasetFormat
    rows_in: int
    rows_kept: int
    rows_train: int
    rows_validation: int
    stages: list[StageReport]
    parents: list[ParentEntry] = []
    origins: list[str] = []
    left_out: dict[str, int] = {}
    """Column of the files, or field of their messages, that is in no row -> rows that had it."""
    created: bool = True
    """False where the version was there already."""


class VersionDiff(Message):
    """What sets two versions apart. Rows are compared by content."""

    rows_added: int
    rows_removed: int
    rows_shared: int
    same: bool
    """Whether the digests are equal."""
    spec_changes: dict[str, list[Any]] = {}
    """Field of the spec -> its old and its new value."""


class VersionVerification(Message):
    """Whether a version is what its digest says."""

    ref: str
    digest: str
    whole: bool
    faults: list[str] = []
    """What is wrong, one sentence each."""
