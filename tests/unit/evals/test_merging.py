"""Gates of an organization and a project together."""

import pytest
from hypothesis import given as drawn
from hypothesis import strategies
from tests.unit.evals import evidences as given

from steelyard.evals.gates import Incumbent, judge
from steelyard.evals.merging import merge_gates, why_not_used
from steelyard.specs.gates import Gate, Verdict

METRIC = "safety/pass_rate"
STRICT = Gate(metric=METRIC, min=0.95, confidence=0.95, min_samples=100)


@pytest.mark.parametrize(
    "looser",
    [
        Gate(metric=METRIC, min=0.5),
        Gate(metric=METRIC, min=0.95, confidence=0.9),
        Gate(metric=METRIC, min=0.95, confidence=0.95, min_samples=99),
        STRICT,
    ],
)
def test_a_looser_gate_is_not_used_and_the_note_says_why(looser: Gate) -> None:
    merged = merge_gates([STRICT], [looser])
    assert [each.gate for each in merged.gates] == [STRICT]
    assert merged.gates[0].scope == "organization"
    assert METRIC in merged.notes[0]


@pytest.mark.parametrize(
    "added",
    [
        Gate(metric=METRIC, min=0.96),
        Gate(metric=METRIC, min=0.5, confidence=0.99),
        Gate(metric=METRIC, max=0.99),
        Gate(metric=METRIC, min=0.5, max_regression=0.5),
        Gate(metric=METRIC, min=0.5, min_samples=101),
        Gate(metric=METRIC, min=0.5, suite_digest=given.OTHER),
        Gate(metric="heldout/loss", max=9.0),
    ],
)
def test_a_gate_that_asks_for_more_is_added(added: Gate) -> None:
    merged = merge_gates([STRICT], [added])
    assert [(each.gate, each.scope) for each in merged.gates] == [
        (STRICT, "organization"),
        (added, "project"),
    ]
    assert merged.notes == []


gates = strategies.builds(
    Gate,
    metric=strategies.just(METRIC),
    min=strategies.sampled_from([None, 0.5, 0.9]),
    max=strategies.sampled_from([None, 0.95, 1.0]),
    max_regression=strategies.sampled_from([0.02, 0.2]),
    confidence=strategies.sampled_from([None, 0.5, 0.9, 0.95, 0.99]),
    min_samples=strategies.sampled_from([None, 50, 200]),
)


@drawn(strategies.lists(gates, max_size=3), strategies.lists(gates, max_size=3), strategies.integers(0, 100))
def test_no_project_lets_through_what_its_organization_stops(
    organization: list[Gate], project: list[Gate], hits: int
) -> None:
    evidence = given.of(given.proportion(METRIC, hits, 100))
    incumbent = Incumbent(given.of(given.proportion(METRIC, 90, 100)))
    alone = judge(merge_gates(organization, []).gates, evidence, incumbent)
    everything = judge(merge_gates(organization, project).gates, evidence, incumbent)
    if alone.verdict is not Verdict.PASS:
        assert everything.verdict is not Verdict.PASS


@drawn(gates, gates, strategies.integers(0, 100))
def test_what_is_not_used_would_have_changed_nothing(theirs: Gate, own: Gate, hits: int) -> None:
    if why_not_used(own, [theirs]) is None:
        return
    evidence = given.of(given.proportion(METRIC, hits, 100))
    incumbent = Incumbent(given.of(given.proportion(METRIC, 90, 100)))
    both = [*merge_gates([theirs], []).gates, *merge_gates([own], []).gates]
    alone = judge(both[:1], evidence, incumbent).verdict is Verdict.PASS
    assert (judge(both, evidence, incumbent).verdict is Verdict.PASS) == alone
