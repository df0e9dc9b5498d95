"""Gates judged: pure rules over evidence. A model passes where each bound of each gate is shown to hold.

All gates must pass, so each is held at its own confidence and none is corrected for the others: a model that
misses one bound passes all with no more than that gate's probability (Berger 1982, Technometrics 24:295).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from steelyard.evals.comparing import Pairs, compare
from steelyard.evals.evidence import Evidence, MetricEvidence
from steelyard.evals.statistics import (
    is_not_inferior,
    proportion_sd,
    samples_needed,
    smallest_effect_paired,
    t_lower_limit,
)
from steelyard.kit.proportions import exact_lower_limit, exact_upper_limit
from steelyard.specs.gates import DEFAULT_CONFIDENCE, Check, Gate, GateJudgement, Judgement, Verdict

Scope = Literal["job", "project", "organization"]


@dataclass(frozen=True)
class ScopedGate:
    """A gate and who set it."""

    gate: Gate
    scope: Scope = "job"


@dataclass(frozen=True)
class Incumbent:
    """What a model is held against: its evidence, and the values of the samples that both have."""

    evidence: Evidence | None
    pairs: Mapping[str, Pairs] = field(default_factory=dict[str, Pairs])
    """By metric, as `Evidence.name_of` of the model's evidence tells them apart. Where a metric has none, its
    figures are compared as of independent samples."""


def judge(
    gates: Sequence[ScopedGate],
    evidence: Evidence | None,
    incumbent: Incumbent | None,
    notes: Sequence[str] = (),
) -> Judgement:
    """Hold evidence against gates.

    Args:
        evidence: of the model. None: nothing was measured, and no gate passes.
        incumbent: None only where no model is there to be worse than: a `max_regression` alone passes then.
            An incumbent without evidence is not None, and nothing passes against it.
        notes: carried along, such as `Merged.notes`.
    """
    judged = [_judge_gate(each, evidence, incumbent) for each in gates]
    return Judgement(verdict=_worst([each.verdict for each in judged]), gates=judged, notes=list(notes))


def _judge_gate(scoped: ScopedGate, evidence: Evidence | None, incumbent: Incumbent | None) -> GateJudgement:
    gate = scoped.gate
    found = evidence.find(gate.metric, gate.suite_digest) if evidence else None
    lacking = _what_lacks(gate, found)
    there = _incumbent_s(found, incumbent)
    if evidence is None or found is None or lacking is not None:
        checks = [lacking or _lacks(f"{gate.metric} was not measured")]
    else:
        checks = [
            _judge_bound(gate, found, kind) for kind in ("min", "max") if getattr(gate, kind) is not None
        ]
        if gate.max_regression is not None:
            pairs = incumbent.pairs.get(evidence.name_of(found)) if incumbent else None
            check = (
                _judge_regression(gate, gate.max_regression, found, there, pairs)
                if incumbent
                else _nothing_there(gate)
            )
            checks.append(check)
    return GateJudgement(
        gate=gate,
        scope=scoped.scope,
        verdict=_worst([each.verdict for each in checks]),
        value=_finite(found.mean) if found else None,
        interval=_finite_pair(found.interval) if found else None,
        n=found.n if found else None,
        incumbent=_finite(there.mean) if there else None,
        checks=checks,
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    for verdict in (Verdict.FAIL, Verdict.NOT_ENOUGH_EVIDENCE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS


def _what_lacks(gate: Gate, found: MetricEvidence | None) -> Check | None:
    if found is None:
        return _lacks(f"{gate.metric} was not measured")
    if gate.suite_digest is not None and found.suite_digest != gate.suite_digest:
        return _lacks(
            f"{gate.metric} was measured with suite {found.suite_digest[:15]}, and the gate counts "
            f"{gate.suite_digest[:15]} alone"
        )
    if not math.isfinite(found.mean):
        return Check(
            kind="evidence",
            verdict=Verdict.FAIL,
            reason=f"{gate.metric} is {found.mean}: no bound admits that",
        )
    if gate.min_samples is not None and found.n < gate.min_samples:
        return _lacks(f"{gate.metric} is of {found.n} samples, and the gate asks for {gate.min_samples}")
    return None


def _lacks(reason: str) -> Check:
    return Check(kind="evidence", verdict=Verdict.NOT_ENOUGH_EVIDENCE, reason=reason)


def _judge_bound(gate: Gate, found: MetricEvidence, kind: Literal["min", "max"]) -> Check:
    """Below, `sign` turns a maximum into a minimum, so that there is one rule."""
    bound = float(getattr(gate, kind))
    sign = 1.0 if kind == "min" else -1.0
    keeps = sign * found.mean >= sign * bound
    told = f"{gate.metric} is {found.mean:.4g} over {found.n} samples"
    if gate.confidence is None:
        verdict = Verdict.PASS if keeps else Verdict.FAIL
        word = "keeps" if keeps else "misses"
        return Check(
            kind=kind, verdict=verdict, reason=f"{told} and {word} {kind} {bound:g}", bound=bound,
            value=found.mean, n=found.n, method="figure",
        )  # fmt: skip
    limit, method = _limit_of(found, gate.confidence, kind)
    if limit is None:
        return _lacks(f"{told}, without an error to be {gate.confidence:.4g} sure by")
    side = "lower" if kind == "min" else "upper"
    shown = f"its {gate.confidence:.4g} {side} limit is {limit:.4g}"
    sd = _deviation(found)
    return Check(
        kind=kind,
        verdict=_verdict(sign * limit >= sign * bound, keeps),
        reason=f"{told}, {shown}: "
        + _conclusion(
            sign * limit >= sign * bound, keeps, f"{kind} {bound:g}", sd, abs(found.mean - bound), gate
        ),
        bound=bound,
        value=found.mean,
        limit=limit,
        n=found.n,
        method=method,
        smallest_effect=smallest_effect_paired(sd, found.n, confidence=gate.confidence, sides=1),
    )


def _deviation(found: MetricEvidence) -> float:
    return proportion_sd(found.mean, found.n) if found.proportion else found.standard_error * found.n**0.5


def _verdict(shown: bool, keeps: bool) -> Verdict:
    if shown and keeps:
        return Verdict.PASS
    return Verdict.NOT_ENOUGH_EVIDENCE if keeps else Verdict.FAIL


def _conclusion(shown: bool, keeps: bool, bound: str, sd: float, gap: float, gate: Gate) -> str:
    if not keeps:
        return f"misses {bound}"
    if shown:
        return f"keeps {bound}"
    needed = samples_needed(sd, gap, confidence=gate.confidence or DEFAULT_CONFIDENCE)
    more = f"; about {needed} samples could, if the figure stays" if needed else ""
    return f"that does not show {bound}{more}"


def _limit_of(
    found: MetricEvidence, confidence: float, kind: Literal["min", "max"]
) -> tuple[float | None, str]:
    if found.n < 1:
        return None, ""
    if found.proportion:
        successes = round(found.mean * found.n)
        of = exact_lower_limit if kind == "min" else exact_upper_limit
        return of(successes, found.n, confidence), "exact"
    # An error of zero is a missing one, or that of samples which are all alike: neither says how sure we are.
    if found.n < 2 or not math.isfinite(found.standard_error) or found.standard_error <= 0.0:
        return None, ""
    sign = 1.0 if kind == "min" else -1.0
    return sign * t_lower_limit(sign * found.mean, found.standard_error, found.n, confidence), "t"


def _incumbent_s(found: MetricEvidence | None, incumbent: Incumbent | None) -> MetricEvidence | None:
    if found is None or incumbent is None or incumbent.evidence is None:
        return None
    return incumbent.evidence.like(found)


def _nothing_there(gate: Gate) -> Check:
    reason = f"{gate.metric}: no model is there to be worse than"
    return Check(kind="max_regression", verdict=Verdict.PASS, reason=reason, bound=gate.max_regression)


def _judge_regression(
    gate: Gate, margin: float, found: MetricEvidence, there: MetricEvidence | None, pairs: Pairs | None
) -> Check:
    lacking = _why_not_comparable(gate.metric, found, there)
    if there is None or lacking is not None:
        return _lacks(lacking or "")
    confidence = DEFAULT_CONFIDENCE if gate.confidence is None else gate.confidence
    result = compare(found, there, pairs, confidence)
    if result is None:
        return _lacks(f"{gate.metric} has no errors to compare it with the incumbent by")
    if gate.min_samples is not None and result.n < gate.min_samples:
        return _lacks(
            f"{gate.metric} has {result.n} samples in common with the incumbent, and the gate asks for "
            f"{gate.min_samples}"
        )
    keeps = result.difference >= -margin
    shown = is_not_inferior(result.lower_limit, margin)
    told = (
        f"{gate.metric} is {found.mean:.4g} and the incumbent's {there.mean:.4g}; better by "
        f"{result.difference:.4g} over {result.n} {result.how} samples, at {confidence:.4g} by at least "
        f"{result.lower_limit:.4g}: "
    )
    sd = result.standard_error * math.sqrt(result.n)
    return Check(
        kind="max_regression",
        verdict=_verdict(shown, keeps),
        reason=told
        + _conclusion(shown, keeps, f"max_regression {margin:g}", sd, result.difference + margin, gate),
        bound=margin,
        value=result.difference,
        limit=result.lower_limit,
        n=result.n,
        method=result.method,
        smallest_effect=smallest_effect_paired(sd, result.n, confidence=confidence, sides=1),
    )


def _why_not_comparable(metric: str, found: MetricEvidence, there: MetricEvidence | None) -> str | None:
    if there is None:
        return f"{metric} of the incumbent was not measured: evaluate it with the same suite"
    if not math.isfinite(there.mean):
        return f"{metric} of the incumbent is {there.mean}: evaluate it again"
    if there.suite_digest != found.suite_digest:
        return f"{metric} of the incumbent is of other content of the suite: evaluate it with the same"
    if there.settings_digest != found.settings_digest:
        return f"{metric} of the incumbent was measured with other settings: evaluate it with the same"
    return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite_pair(values: tuple[float, float]) -> tuple[float, float] | None:
    return values if all(map(math.isfinite, values)) else None
