"""What becomes of a promotion: rule by rule, and in what order they speak."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rollouts.binding import Binding, what_changed
from steelyard.rollouts.settlement import Facts, next_step
from steelyard.specs.promotions import OPEN_STATES, PromotionState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def facts(**changes: Any) -> Facts:
    """A promotion that nothing stands in the way of, but for the changes."""
    fine: dict[str, Any] = {
        "now": NOW,
        "state": PromotionState.AWAITING_APPROVAL,
        "message": "",
        "expires_at": LATER,
        "bound_to": "a",
        "binding_now": "a",
        "changed": "",
        "stage_refusal": None,
        "approvals": ["ann", "ben"],
        "lost": [],
        "required": 2,
        "frozen_until": None,
    }
    return Facts(**{**fine, **changes})


def test_it_is_ready_where_nothing_stands_in_the_way() -> None:
    assert next_step(facts()).ready


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"state": PromotionState.CHECKING}, PromotionState.CHECKING),
        ({"binding_now": "b", "changed": "the model"}, PromotionState.VOID),
        ({"stage_refusal": "never in staging"}, PromotionState.VOID),
        ({"expires_at": NOW}, PromotionState.EXPIRED),
        ({"approvals": ["ann"]}, PromotionState.AWAITING_APPROVAL),
        ({"frozen_until": LATER}, PromotionState.AWAITING_THAW),
        # What has changed goes before what is missing; nobody is to approve what is void.
        ({"binding_now": "b", "approvals": [], "expires_at": NOW}, PromotionState.VOID),
        ({"approvals": [], "frozen_until": LATER}, PromotionState.AWAITING_APPROVAL),
    ],
)
def test_what_stands_in_the_way(changes: dict[str, Any], state: PromotionState) -> None:
    step = next_step(facts(**changes))
    assert not step.ready
    assert step.state is state


def test_it_looks_again_when_the_freeze_or_the_promotion_ends() -> None:
    thaw = NOW + timedelta(hours=1)
    assert next_step(facts(frozen_until=thaw)).wake_at == thaw
    assert next_step(facts(frozen_until=LATER + timedelta(days=9))).wake_at == LATER
    assert next_step(facts(approvals=[])).wake_at == LATER


@given(
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(list(PromotionState)),
            "binding_now": st.sampled_from("ab"),
            "stage_refusal": st.sampled_from([None, "no"]),
            "approvals": st.lists(st.sampled_from(["ann", "ben"]), unique=True),
            "expires_at": st.sampled_from([NOW, LATER]),
            "frozen_until": st.sampled_from([None, LATER]),
        }
    )
)
def test_it_is_ready_only_where_every_condition_holds(changes: dict[str, Any]) -> None:
    step = next_step(facts(**changes))
    everything = (
        changes["state"] in OPEN_STATES - {PromotionState.CHECKING}
        and changes["binding_now"] == "a"
        and changes["stage_refusal"] is None
        and len(changes["approvals"]) == 2
        and changes["expires_at"] == LATER
        and changes["frozen_until"] is None
    )
    assert step.ready is everything


def test_a_binding_covers_each_of_its_parts_and_names_what_differs() -> None:
    whole = Binding("p", "m", 1, "prod", "sha256:1", {"e": "1"}, {"e": "0"}, ["g"], 3)
    other: dict[str, Any] = {
        "model_digest": "sha256:2",
        "evidence": {"e": "2"},
        "incumbent_evidence": {},
        "gates": [],
        "alias_sequence": 4,
    }
    words: set[str] = set()
    for name, value in other.items():
        changed = replace(whole, **{name: value})
        assert changed.digest() != whole.digest()
        words.add(what_changed(whole, changed))
    assert len(words) == len(other)
    place: dict[str, Any] = {"project": "q", "model": "n", "version": 2, "alias": "dev"}
    for name, value in place.items():
        assert replace(whole, **{name: value}).digest() != whole.digest()
