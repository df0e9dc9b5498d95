"""Evaluations in words that everybody shares: suites, what an attempt measures, and what people are shown.

A *cell* is one model in one suite under given settings. Its key follows from the three, so that equal cells
share their work: shards that are finished, and results that are known.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from steelyard.kit.canonical import digest_json
from steelyard.specs.base import Message, Spec
from steelyard.specs.comparisons import BaseComparison, MetricComparison
from steelyard.specs.safety import SafetyReport, is_safety_suite

BUILT_IN_SUITES = ("heldout", "choices")
"""Suites of the platform's own, over the validation split of the job's dataset."""
LIBRARY_PREFIX = "lm_eval:"
"""A task of lm-evaluation-harness's own library, which reads its data from a hub."""
OWN_ENGINE = "steelyard-1"
"""Change it with anything that changes a figure of the built-in suites."""
LM_EVAL_VERSION = "0.4.13"
"""The one version of lm-evaluation-harness that results are made with."""
ADAPTER_BASE = "base_model"
"""In a cell's settings: digest of the model that an adapter lies on."""
RESULTS_FOLDER = "evaluations"
RESULT_NAME = "result.json"
SAMPLES_NAME = "samples.parquet"
MAX_SUITE_BYTES = 32 << 20
MAX_SUITE_FILES = 500

SUITE_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
SuiteName = Annotated[str, Field(pattern=rf"^{SUITE_NAME}$")]
SuiteRef = Annotated[
    str,
    Field(
        pattern=rf"^({SUITE_NAME}|safety/[a-z_]{{1,40}}|lm_eval:[A-Za-z0-9][A-Za-z0-9_.-]{{0,99}})"
        r"(@sha256:[0-9a-f]{64})?$"
    ),
]
"""`heldout`, `choices`, `safety`, `safety/PROBE`, a suite of the project or its organization as `NAME` or
`NAME@sha256:...`, or `lm_eval:TASK`."""
Subject = Literal["base", "tuned"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class SuiteFile(Message):
    """One file of a suite."""

    path: str
    size: int
    digest: str


class SuiteManifest(Message):
    """A suite: what its digest covers."""

    files: list[SuiteFile]
    """By path."""
    tasks: list[str]
    """Names of the tasks that its YAML files define."""

    def digest(self) -> str:
        """Return the digest over the files: equal files, equal digest."""
        return digest_json([each.model_dump(mode="json") for each in self.files])


class SuiteUploadFile(Spec):
    """A file as it is sent."""

    path: Annotated[str, Field(min_length=1, max_length=240)]
    digest: Digest
    content: Annotated[str, Field(max_length=(MAX_SUITE_BYTES + 2) * 4 // 3)]
    """Base64."""


class SuiteUpload(Spec):
    """A suite as it is sent."""

    name: SuiteName
    files: Annotated[list[SuiteUploadFile], Field(min_length=1, max_length=MAX_SUITE_FILES)]
    organization: str | None = None
    """Unset: the suite is the project's."""

    @field_validator("name")
    @classmethod
    def _is_not_the_platforms(cls, name: str) -> str:
        if is_built_in(name):
            raise ValueError(f"{name!r} is a suite of the platform's own; choose another name")
        return name


class SuiteView(Message):
    """One version of a suite."""

    id: str
    name: str
    digest: str
    scope: Literal["project", "organization"]
    tasks: list[str]
    files: list[SuiteFile]
    size_bytes: int
    runs_code: bool
    created_by: str
    created_at: datetime
    removed_at: datetime | None = None
    created: bool = True
    """False where it was there already."""


class MetricResult(Message):
    """One figure of one model in one suite."""

    name: str
    """Without the suite: `accuracy`, or `<task>.accuracy` for one task of a suite of several."""
    mean: float
    standard_error: float
    n: int
    interval: tuple[float, float]
    """At 95 %."""
    method: str
    """How the interval was made: `wilson`, `t`, `bootstrap`, or `normal` from the engine's own error."""
    higher_is_better: bool
    proportion: bool = False
    column: str | None = None
    """Column of the per-sample file that holds its values."""
    weight_column: str | None = None


class Figure(Message):
    """One figure as the attempt measured it; the control plane adds the interval."""

    name: str
    value: float
    standard_error: float
    n: int
    higher_is_better: bool
    proportion: bool = False
    column: str | None = None
    weight_column: str | None = None
    of: str | None = None
    """The name of the figure whose exponential this one is: a perplexity's loss."""


class Cell(Message):
    """One model in one suite, under given settings."""

    subject: Subject
    suite: str
    suite_digest: str
    model_digest: str
    settings: dict[str, Any]
    engine: str
    known: dict[str, float] | None = None
    """Figures of an equal cell that was measured before; there is nothing to do then."""

    @property
    def settings_digest(self) -> str:
        """Digest of settings and engine. What an adapter lies on is part of the model and no setting, so
        that it can be held against its base."""
        settings = {name: value for name, value in self.settings.items() if name != ADAPTER_BASE}
        return digest_json({"settings": settings, "engine": self.engine})

    @property
    def key(self) -> str:
        """Name of the folder that its work is in: equal cells share it."""
        model = [self.model_digest, self.settings.get(ADAPTER_BASE)]
        parts = [model, self.suite, self.suite_digest, self.settings_digest]
        return f"{_UNSAFE.sub('-', self.suite)[:40]}-{digest_json(parts)[7:23]}"


class SuiteFolder(Message):
    """Where a suite's files are on the node."""

    name: str
    digest: str
    path: str | None
    """None for a task of the library."""
    tasks: list[str]
    runs_code: bool = False


class EvaluationOrders(Message):
    """What an evaluating attempt is to do."""

    cells: list[Cell]
    suites: list[SuiteFolder] = []


class CellResult(Message):
    """What an attempt leaves for one cell: `<job_dir>/evaluations/<key>/result.json`, written last."""

    cell: Cell
    n: int
    samples_digest: str
    """Of `samples.parquet` beside it."""
    records_digest: str
    """Over the records themselves, whatever library wrote the file."""
    figures: list[Figure]
    seconds: float


class EvaluationSummary(Message):
    """A line of the list."""

    id: str
    job_id: str
    subject: Subject
    model_name: str
    model_digest: str
    suite: str
    suite_digest: str
    n: int
    metrics: list[MetricResult]
    cached_from: str | None
    created_at: datetime


class EvaluationView(EvaluationSummary):
    """One evaluation, whole."""

    settings: dict[str, Any]
    settings_digest: str
    engine: str
    samples_digest: str
    digest: str
    seconds: float
    safety: SafetyReport | None = None
    """Of a safety suite: each probe with its limits, and what was not tested."""
    base: BaseComparison | None = None
    """Beside the model that this one was trained from."""


class EvaluationComparison(Message):
    """Two evaluations side by side."""

    a: list[EvaluationSummary]
    b: list[EvaluationSummary]
    metrics: list[MetricComparison]


def figures_by_name(subject: str, suite: str, figures: list[Figure]) -> dict[str, float]:
    """Return figures under the names that a job's metrics have: `tuned/heldout/loss` and its `/stderr`."""
    found: dict[str, float] = {}
    for figure in figures:
        name = f"{subject}/{suite}/{figure.name}"
        found[name] = figure.value
        found[f"{name}/stderr"] = figure.standard_error
    found[f"{subject}/{suite}/n"] = float(max((each.n for each in figures), default=0))
    return found


def suite_name(ref: str) -> str:
    """Return the name in a reference: what metrics are named by."""
    return ref.split("@", 1)[0]


def is_built_in(name: str) -> bool:
    """Whether a suite is the platform's own, with no files that somebody added."""
    return name in BUILT_IN_SUITES or is_safety_suite(name)


def built_in_digest(name: str, dataset: Mapping[str, str]) -> str:
    """Return the digest of a built-in suite over a dataset version."""
    return digest_json({"suite": name, "engine": OWN_ENGINE, **dataset})


def library_digest(name: str) -> str:
    """Return the digest of a task of the library: its definition is the engine's; its data is the hub's."""
    return digest_json({"task": name, "engine": f"lm-eval-{LM_EVAL_VERSION}"})
