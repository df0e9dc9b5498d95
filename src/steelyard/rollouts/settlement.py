"""What becomes of a promotion at a moment: an ordered list of rules over facts. Pure.

The rules run twice: to see whether to go on, and again inside the transaction that moves the alias, under the
alias's lock, over facts that were read there. The alias moves where the second run says so, and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from steelyard.specs.promotions import OPEN_STATES, PromotionState


@dataclass(frozen=True)
class Facts:
    """A promotion and the world around it, as they are at `now`."""

    now: datetime
    state: PromotionState
    message: str
    expires_at: datetime
    bound_to: str
    """Digest of what was judged and shown to the approvers."""
    binding_now: str
    """The same, of how things are."""
    changed: str
    """What differs between the two, for the message."""
    stage_refusal: str | None
    approvals: Sequence[str]
    """Who approved exactly this and whose yes still counts."""
    lost: Sequence[str]
    """Why others' yes doesn't count any more, one sentence each."""
    required: int
    frozen_until: datetime | None
    frozen_because: str = ""


@dataclass(frozen=True)
class Step:
    """What comes next. `ready`: the alias may move. Otherwise the state to be in, and when to look again."""

    state: PromotionState
    message: str
    ready: bool = False
    wake_at: datetime | None = None


Rule = Callable[[Facts], Step | None]


def next_step(facts: Facts) -> Step:
    """Return what the first rule that has something to say says; the alias may move where none has."""
    for rule in _RULES:
        step = rule(facts)
        if step is not None:
            return step
    return Step(facts.state, "passed its gates and was approved", ready=True)


def _over(facts: Facts) -> Step | None:
    return None if facts.state in OPEN_STATES else Step(facts.state, facts.message)


def _not_judged(facts: Facts) -> Step | None:
    return Step(facts.state, facts.message) if facts.state is PromotionState.CHECKING else None


def _changed(facts: Facts) -> Step | None:
    if facts.binding_now == facts.bound_to:
        return None
    message = f"void: {facts.changed} changed since the gates were judged; ask for the promotion again"
    return Step(PromotionState.VOID, message)


def _stage_lost(facts: Facts) -> Step | None:
    return None if facts.stage_refusal is None else Step(PromotionState.VOID, f"void: {facts.stage_refusal}")


def _expired(facts: Facts) -> Step | None:
    if facts.now < facts.expires_at:
        return None
    message = f"expired with {len(facts.approvals)} of {facts.required} approvals; ask for it again"
    return Step(PromotionState.EXPIRED, message)


def _unapproved(facts: Facts) -> Step | None:
    missing = facts.required - len(facts.approvals)
    if missing <= 0:
        return None
    parts = [f"waits for {missing} more of {facts.required} approvals", *facts.lost]
    return Step(PromotionState.AWAITING_APPROVAL, "; ".join(parts), wake_at=facts.expires_at)


def _frozen(facts: Facts) -> Step | None:
    if facts.frozen_until is None:
        return None
    message = (
        f"approved, and held back until {facts.frozen_until:%Y-%m-%d %H:%M} UTC ({facts.frozen_because}); "
        "an owner can override the freeze"
    )
    wake_at = min(facts.frozen_until, facts.expires_at)
    return Step(PromotionState.AWAITING_THAW, message, wake_at=wake_at)


_RULES: Sequence[Rule] = (_over, _not_judged, _changed, _stage_lost, _expired, _unapproved, _frozen)
