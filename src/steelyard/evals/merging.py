"""Gates of an organization and of a project, put together: a project adds, and never loosens. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.evals.gates import ScopedGate
from steelyard.specs.gates import Gate


@dataclass(frozen=True)
class Merged:
    """All gates to judge. A gate of the project that an organization's gate is stricter than adds nothing."""

    gates: list[ScopedGate]
    notes: list[str]
    """A sentence for each gate of the project that is not used, and why."""


def merge_gates(organization: Sequence[Gate], project: Sequence[Gate]) -> Merged:
    """Put gates together. Every gate of the organization is among the result, whatever the project says."""
    gates = [ScopedGate(each, "organization") for each in organization]
    notes: list[str] = []
    for each in project:
        why = why_not_used(each, organization)
        if why is None:
            gates.append(ScopedGate(each, "project"))
        else:
            notes.append(why)
    return Merged(gates, notes)


def why_not_used(gate: Gate, organization: Sequence[Gate]) -> str | None:
    """Return why a project's gate changes nothing beside its organization's; None: it adds to them."""
    for theirs in organization:
        if theirs == gate:
            return f"the project's gate on {gate.metric} repeats the organization's"
        if _is_implied(gate, theirs):
            return (
                f"the project's gate on {gate.metric} ({_in_words(gate)}) is looser than the organization's "
                f"({_in_words(theirs)}), which holds"
            )
    return None


def _is_implied(gate: Gate, by: Gate) -> bool:
    """Whether all that passes `by` passes `gate`."""
    return gate.metric == by.metric and all(rule(gate, by) for rule in _RULES)


def _min_is_implied(gate: Gate, by: Gate) -> bool:
    return gate.min is None or (by.min is not None and by.min >= gate.min)


def _max_is_implied(gate: Gate, by: Gate) -> bool:
    return gate.max is None or (by.max is not None and by.max <= gate.max)


def _regression_is_implied(gate: Gate, by: Gate) -> bool:
    if gate.max_regression is None:
        return True
    return by.max_regression is not None and by.max_regression <= gate.max_regression


def _confidence_is_implied(gate: Gate, by: Gate) -> bool:
    # No confidence means another thing for a bound (none) than for a regression (the default).
    if gate.confidence is None and by.confidence is None:
        return True
    if gate.confidence is None:
        return gate.max_regression is None
    return by.confidence is not None and by.confidence >= gate.confidence


def _samples_are_implied(gate: Gate, by: Gate) -> bool:
    return gate.min_samples is None or (by.min_samples is not None and by.min_samples >= gate.min_samples)


def _suite_is_implied(gate: Gate, by: Gate) -> bool:
    return gate.suite_digest is None or gate.suite_digest == by.suite_digest


_RULES = (
    _min_is_implied,
    _max_is_implied,
    _regression_is_implied,
    _confidence_is_implied,
    _samples_are_implied,
    _suite_is_implied,
)


def _in_words(gate: Gate) -> str:
    given = gate.model_dump(exclude_none=True, exclude={"metric"})
    return ", ".join(f"{name} {value}" for name, value in given.items())
