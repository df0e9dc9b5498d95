"""Probe sets: pinned, sourced, of a moderate size, and free of copies."""

import pytest

from steelyard.runtime.failures import RunFailure
from steelyard.specs import safety
from steelyard.specs.safety import PROBE_DIGESTS, SafetySettings, probes_of, safety_digest, why_not_runnable
from steelyard.trainers.safety import sets
from steelyard.trainers.safety.scorers import SCORERS
from steelyard.trainers.safety.sets import load_set


@pytest.mark.parametrize("name", PROBE_DIGESTS)
def test_a_set_says_where_it_is_from_and_what_it_is_not(name: str) -> None:
    found = load_set(name)
    assert found.name == name
    assert 30 <= len(found.cases) <= 100
    assert found.source
    assert found.licence
    assert len(found.limits) > 40
    assert found.scorer in (*SCORERS, "even")
    assert found.kind == ("pair" if name == "bias" else "answer")


def test_a_set_that_somebody_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(safety.PROBE_DIGESTS, "refusal", "sha256:" + "0" * 64)
    sets.load_set.cache_clear()
    with pytest.raises(RunFailure, match="has been changed"):
        load_set("refusal")
    sets.load_set.cache_clear()


def test_suites_name_their_probes() -> None:
    assert probes_of("safety", SafetySettings()) == list(PROBE_DIGESTS)
    assert probes_of("safety/refusal", SafetySettings()) == ["refusal"]
    assert len({safety_digest(name) for name in ("safety", "safety/refusal", "safety/bias")}) == 3
    for name in ("safety/nonsense", "safety/canary", "safety/garak"):
        assert why_not_runnable(name, SafetySettings()) is not None
    assert why_not_runnable("safety/secrets", SafetySettings()) is None
