"""Gates: what a model's figures must keep before it is registered, or before an alias moves to it."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steelyard.specs.base import Message, Spec

DEFAULT_CONFIDENCE = 0.95
"""Of a comparison with the incumbent where the gate names none."""

POLICY_KL = "policy/kl"
"""Mean divergence of a policy from its reference model on held-out prompts, in nats per token. Training
measures it (methods dpo, kto, ppo and grpo), no suite does."""

Bound = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Spec):
    """A bound on one metric of the evaluation.

    Several bounds in one gate must all hold. Without `confidence`, `min` and `max` are held against the
    figure as it was measured, however few samples it is of: set `min_samples` or `confidence` where chance
    must not pass a gate.
    """

    metric: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)+$")]
    """`suite/metric`, such as `heldout/loss`; or `policy/kl`, which the training of a policy measures."""
    min: Bound | None = None
    max: Bound | None = None
    max_regression: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """How much worse than the incumbent, in the metric's unit and direction, and never shown to be within
    that by chance alone: one-sided, at `confidence` (0.95 where unset). The incumbent of a job is its base
    model; of a promotion, the version that the alias points to."""
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] | None = None
    """The bound must be kept by the one-sided confidence limit, not by the figure alone. A model that is
    just at the bound passes with a probability of at most `1 - confidence`."""
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """Samples that the figure must be of."""
    suite_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Evidence from any other content of the suite does not count."""

    @property
    def suite(self) -> str:
        """The suite that measures the metric."""
        return self.metric.rpartition("/")[0]

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None and self.max_regression is None:
            raise ValueError("a gate needs min or max, or max_regression")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max: nothing passes")
        return self


class Verdict(StrEnum):
    """What a gate says. Only `pass` lets a model through."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class Check(Message):
    """One bound of a gate, with the numbers that it was judged by."""

    kind: Literal["min", "max", "max_regression", "evidence"]
    """`evidence`: there was nothing that may be judged."""
    verdict: Verdict
    reason: str
    """A sentence with the numbers."""
    bound: float | None = None
    value: float | None = None
    """The figure; for `max_regression` the difference to the incumbent, below zero where it is worse."""
    limit: float | None = None
    """The one-sided confidence limit that the bound was held against; None where the figure itself was."""
    n: int | None = None
    """Samples: of both models together where they are paired."""
    method: str | None = None
    """How the limit was made."""
    smallest_effect: float | None = None
    """The difference that so many samples find with 80 % power at this confidence."""


class GateJudgement(Message):
    """A gate and what it says."""

    gate: Gate
    scope: Literal["job", "project", "organization"] = "job"
    """Who set it."""
    verdict: Verdict
    value: float | None = None
    interval: tuple[float, float] | None = None
    """At 95 %."""
    n: int | None = None
    incumbent: float | None = None
    checks: list[Check]

    @property
    def reason(self) -> str:
        """All checks that do not pass, or all where the gate passes."""
        told = [each for each in self.checks if each.verdict is not Verdict.PASS] or self.checks
        return "; ".join(each.reason for each in told)


class Judgement(Message):
    """What all gates say: `pass` only where each of them does."""

    verdict: Verdict
    gates: list[GateJudgement]
    notes: list[str] = []
    """Gates that add nothing to stricter ones, and why."""
    missing: list[str] = []
    """What is needed whatever the gates say, and isn't there."""

    @property
    def reasons(self) -> list[str]:
        """A sentence for each gate that does not pass, and for what is missing beside."""
        return [*(each.reason for each in self.gates if each.verdict is not Verdict.PASS), *self.missing]
