"""Safety suites in words that everybody shares: their names, what they are given, and what is reported.

`safety` runs all probes; `safety/PROBE` runs one. Figures are rates of cases that pass, by probe:
`safety/refusal_pass_rate`, and `safety/pass_rate` over all.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.kit.canonical import digest_json
from steelyard.specs.base import Message, Spec
from steelyard.specs.comparisons import MetricComparison
from steelyard.specs.secrets import SecretName

SAFETY = "safety"
SAFETY_ENGINE = "steelyard-safety-2"
"""Change it with anything that changes a figure of a safety suite."""
CANARY = "canary"
GARAK = "garak"
PROBE_DIGESTS = {
    "refusal": "sha256:4c32a152c341ce3952f791d189c13394443241e18ebaf356adecdbba2529c935",
    "over_refusal": "sha256:9d93e2f9256d0e9ff5251f44118c653578c996da5f606209f108d5ecb5642812",
    "jailbreak": "sha256:0bc23c4b6584d59f3cb4c9c217374c90097f6e0c7f2b5af97f7b730bf0d72ea5",
    "injection": "sha256:1db3b73fb758f6e96ff0daf0f1ec3150311398d63c3dc32113647400f9bdc818",
    "pii": "sha256:a610951e8ba42ba1238542068256875513b54bf206d3f8a0acc53ce7baacb1ae",
    "secrets": "sha256:d7f3744c4ee5a5e208b30b68847fd5cb3b617f5c8ca108aa811bda790138e787",
    "toxicity": "sha256:dc13fdd95e4719b6fce25128f04a124bb6441066be211491ae2d0fcfe734c010",
    "bias": "sha256:d97ce437c1ec5df0cfbe742d7934f0fa4976766d7ae2dd4bf74b93fc10c4f030",
}
"""The probe sets of the package, in the order in which they run, pinned by their content."""
LIKELIHOOD_PROBES = ("bias", CANARY)
"""These can't be run on a model behind an api."""
LOWER_IS_BETTER = frozenset(
    {"over_refusal_rate", "bias_stereotype_rate", "canary_extracted_rate", "canary_exposure"}
)
"""Figures of which less is better; `bias_stereotype_rate` is 0.5 where no side is preferred."""


class Canary(Spec):
    """A string that is in the training data on purpose: `prefix`, then `secret`."""

    prefix: Annotated[str, Field(min_length=1, max_length=500)]
    secret: Annotated[str, Field(min_length=6, max_length=200)]
    """What must not be told. Its digits and letters are what is random about it."""


class JudgeBlock(Spec):
    """A Llama-Guard-style model that says `safe` or `unsafe` of each answer: its weights, or an api."""

    name_or_path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """A Hugging Face id, such as `meta-llama/Llama-Guard-3-1B`, or a folder on the node."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=1024)] | None = None
    """Base of an OpenAI-compatible api, such as `https://models.example.org/v1`."""
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The judge's name behind `url`."""
    secret: SecretName | None = None
    """The project's secret with the api's key; it must be among the job's `secrets`."""
    timeout_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = 60.0

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.name_or_path is None) == (self.url is None):
            raise ValueError("a judge needs name_or_path or url, one of the two")
        if (self.url is None) != (self.model is None):
            raise ValueError("url and model of a judge go together")
        return self


class SafetySettings(Spec):
    """What safety suites are given beside their own probe sets."""

    canaries: Annotated[list[Canary], Field(max_length=64)] = []
    """Strings that `steelyard evals canaries plant` put into the dataset."""
    canary_references: Annotated[int, Field(ge=15, le=4095)] = 127
    """Random strings that each canary is ranked among."""
    judge: JudgeBlock | None = None
    detoxify: Literal["original", "unbiased", "multilingual", "original-small", "unbiased-small"] | None = (
        None
    )
    """A model of the package detoxify (extra `detoxify`), which looks at every answer."""
    garak: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[A-Za-z0-9_]+$")]], Field(max_length=32)
    ] = []
    """Probes of the package garak (extra `garak`), such as `dan.Dan_11_0`, with their own detectors."""

    @model_validator(mode="after")
    def _canaries_have_room(self) -> Self:
        for canary in self.canaries:
            if _forms(canary.secret) < 4 * (self.canary_references + 1):
                raise ValueError(
                    f"a canary's secret has only {_forms(canary.secret)} strings of its form: use more "
                    "digits or letters, or fewer canary_references"
                )
        return self


class ProbeReport(Message):
    """One probe: what came out, and what it is worth."""

    probe: str
    pass_rate: float
    interval: tuple[float, float]
    """At 95 %."""
    n: int
    measures: str
    passes: str
    """When a case passes."""
    scorer: str
    limits: list[str]
    source: str
    licence: str
    version: int | None = None
    digest: str | None = None
    regression: MetricComparison | None = None
    """Beside the model that this one was trained from, over the same cases; differences are the model's pass
    rate minus the base's. None where the base was not measured: `SafetyReport.base_message` says why."""


class NotTested(Message):
    """Something that was not tested, why, and how it could be."""

    what: str
    why: str
    remedy: str = ""


class SafetyReport(Message):
    """What one safety suite says of a model, and what it does not say."""

    suite: str
    probes: list[ProbeReport]
    not_tested: list[NotTested]
    base: str | None = None
    """Name of the model that this one was trained from, where it was measured alike."""
    base_message: str = ""
    """Why nothing is said of a regression against the base model."""


def is_safety_suite(name: str) -> bool:
    """Whether a suite is one of these."""
    return name == SAFETY or name.startswith(f"{SAFETY}/")


def probes_of(suite: str, settings: SafetySettings) -> list[str]:
    """Return the probes that a suite runs, those that settings add among them."""
    if suite != SAFETY:
        return [suite.removeprefix(f"{SAFETY}/")]
    return [*PROBE_DIGESTS, *([CANARY] if settings.canaries else []), *([GARAK] if settings.garak else [])]


def why_not_runnable(suite: str, settings: SafetySettings) -> str | None:
    """Return why a safety suite can't be run as it is named, or None."""
    probe = suite.removeprefix(SAFETY).removeprefix("/")
    if probe == CANARY and not settings.canaries:
        return "safety/canary needs evaluation.safety.canaries"
    if probe == GARAK and not settings.garak:
        return "safety/garak needs evaluation.safety.garak"
    if probe and probe not in (*PROBE_DIGESTS, CANARY, GARAK):
        known = ", ".join((*PROBE_DIGESTS, CANARY, GARAK))
        return f"there is no {suite}: use safety, or safety/ and one of {known}"
    return None


def safety_digest(suite: str) -> str:
    """Return the digest of a suite: of the probe sets that it runs. Canaries and judges are settings."""
    sets = PROBE_DIGESTS if suite == SAFETY else {suite: PROBE_DIGESTS.get(suite.removeprefix(f"{SAFETY}/"))}
    return digest_json({"suite": suite, "engine": SAFETY_ENGINE, "sets": sets})


def figure_name(value: str) -> str:
    """Return the figure that a value of single cases becomes: `pass` becomes `pass_rate`."""
    return value if value == "canary_exposure" else f"{value}_rate"


def _forms(secret: str) -> int:
    count = 1
    for each in secret:
        if each.isascii() and each.isdigit():
            count *= 10
        elif each.isascii() and each.isalpha():
            count *= 26
    return count
