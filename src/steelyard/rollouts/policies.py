"""Who must agree: defaults, the stricter of two policies, and the rules of one approval. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from steelyard.specs.access import ProjectRole
from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import Alias

_DEFAULTS = {
    Alias.DEV: ApprovalPolicy(approvers=0, allow_self_approval=True),
    Alias.STAGING: ApprovalPolicy(approvers=1),
    Alias.PROD: ApprovalPolicy(approvers=2),
}
# A home with one person: nobody else could say yes. The record tells.
_ALONE = {**_DEFAULTS, Alias.STAGING: ApprovalPolicy(approvers=1, allow_self_approval=True)}

SELF_APPROVED = "approved by who asked for it or trained the model, as the policy allows"


@dataclass(frozen=True)
class Case:
    """A promotion, as far as an approval's rules look at it."""

    requested_by: str
    trained_by: str
    policy: ApprovalPolicy


@dataclass(frozen=True)
class Approver:
    """Somebody as they stand at this moment."""

    id: str
    is_person: bool
    is_active: bool
    roles: frozenset[ProjectRole]


Rule = Callable[[Case, Approver], str | None]


def default_policy(alias: Alias, *, alone: bool) -> ApprovalPolicy:
    """Return what holds where nobody set anything.

    Args:
        alone: whether the installation has its one local administrator and nobody else.
    """
    return (_ALONE if alone else _DEFAULTS)[alias]


def stricter(one: ApprovalPolicy, other: ApprovalPolicy | None) -> ApprovalPolicy:
    """Return what satisfies both: a project tightens what its organization asks, and never loosens it.

    Where the two name no common role, the first one's roles hold.
    """
    if other is None:
        return one
    return ApprovalPolicy(
        approvers=max(one.approvers, other.approvers),
        roles=[role for role in one.roles if role in other.roles] or one.roles,
        allow_self_approval=one.allow_self_approval and other.allow_self_approval,
        requires_stage_before=one.requires_stage_before or other.requires_stage_before,
        expires_after_seconds=min(one.expires_after_seconds, other.expires_after_seconds),
    )


def refuse_approval(case: Case, approver: Approver) -> str | None:
    """Return why somebody's yes doesn't count, by the first rule that says so; None where it does."""
    return next((reason for rule in _RULES if (reason := rule(case, approver)) is not None), None)


def is_own(case: Case, approver_id: str) -> bool:
    """Whether somebody would approve what they asked for or trained."""
    return approver_id in (case.requested_by, case.trained_by)


def counting(case: Case, approvers: Iterable[Approver]) -> list[str]:
    """Return the ids of those whose yes counts, each once."""
    good = (approver.id for approver in approvers if refuse_approval(case, approver) is None)
    return sorted(set(good))


def _is_person(_case: Case, approver: Approver) -> str | None:
    if approver.is_person:
        return None
    return (
        "only people approve: a service account can't, nor can the local administrator where there are "
        "others, because its token doesn't say who holds it"
    )


def _is_active(_case: Case, approver: Approver) -> str | None:
    return None if approver.is_active else f"{approver.id} is disabled"


def _holds_role(case: Case, approver: Approver) -> str | None:
    if approver.roles & set(case.policy.roles):
        return None
    return f"{approver.id} holds none of the roles that may approve this: {', '.join(case.policy.roles)}"


def _is_not_own(case: Case, approver: Approver) -> str | None:
    if case.policy.allow_self_approval or not is_own(case, approver.id):
        return None
    what = "asked for this promotion" if approver.id == case.requested_by else "trained this model"
    return f"{approver.id} {what}; somebody else must approve it"


_RULES: Sequence[Rule] = (_is_person, _is_active, _holds_role, _is_not_own)
