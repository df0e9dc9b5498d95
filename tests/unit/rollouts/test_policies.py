"""Who may approve what: rule by rule, and what a project may do to its organization's policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rollouts.policies import Approver, Case, counting, default_policy, refuse_approval, stricter
from steelyard.specs.access import ProjectRole
from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import Alias

STRICT = ApprovalPolicy(approvers=2)
CASE = Case(requested_by="ada", trained_by="bob", policy=STRICT)
APPROVER = frozenset({ProjectRole.APPROVER})

policies = st.builds(
    ApprovalPolicy,
    approvers=st.integers(0, 10),
    roles=st.lists(st.sampled_from(list(ProjectRole)), min_size=1, unique=True),
    allow_self_approval=st.booleans(),
    requires_stage_before=st.booleans(),
    expires_after_seconds=st.integers(60, 90 * 86400),
)
people = st.builds(
    Approver,
    id=st.sampled_from(["ada", "bob", "cid", "dora"]),
    is_person=st.booleans(),
    is_active=st.booleans(),
    roles=st.frozensets(st.sampled_from(list(ProjectRole))),
)


def person(name: str, roles: frozenset[ProjectRole] = APPROVER, **changes: bool) -> Approver:
    return Approver(name, **{"is_person": True, "is_active": True, **changes}, roles=roles)


class TestOneApproval:
    def test_an_approver_who_had_no_part_in_it_may(self) -> None:
        assert refuse_approval(CASE, person("cid")) is None

    @pytest.mark.parametrize(
        ("approver", "because"),
        [
            (person("ada"), "asked for this promotion"),
            (person("bob"), "trained this model"),
            (person("cid", frozenset({ProjectRole.DEVELOPER})), "holds none of the roles"),
            (person("cid", frozenset()), "holds none of the roles"),
            (person("cid", is_active=False), "disabled"),
            (person("cid", is_person=False), "only people"),
        ],
    )
    def test_others_may_not_and_are_told_why(self, approver: Approver, because: str) -> None:
        reason = refuse_approval(CASE, approver)
        assert reason is not None
        assert because in reason

    def test_self_approval_is_the_policys_to_allow(self) -> None:
        case = Case("ada", "ada", STRICT.model_copy(update={"allow_self_approval": True}))
        assert refuse_approval(case, person("ada")) is None

    def test_one_person_counts_once(self) -> None:
        assert counting(CASE, [person("cid"), person("cid"), person("ada")]) == ["cid"]


class TestDefaults:
    @pytest.mark.parametrize("alone", [True, False])
    def test_prod_takes_two_others(self, alone: bool) -> None:
        policy = default_policy(Alias.PROD, alone=alone)
        assert policy.approvers == 2
        assert not policy.allow_self_approval

    def test_one_person_alone_can_reach_staging(self) -> None:
        assert default_policy(Alias.STAGING, alone=True).allow_self_approval
        assert not default_policy(Alias.STAGING, alone=False).allow_self_approval
        assert default_policy(Alias.STAGING, alone=True).approvers == 1


class TestStricter:
    @given(policies, policies, st.lists(people, max_size=6))
    def test_a_project_never_loosens(
        self, organization: ApprovalPolicy, project: ApprovalPolicy, approvers: list[Approver]
    ) -> None:
        merged = stricter(organization, project)

        def approved(policy: ApprovalPolicy) -> bool:
            return len(counting(Case("ada", "bob", policy), approvers)) >= policy.approvers

        assert not approved(merged) or approved(organization)
        assert merged.requires_stage_before >= organization.requires_stage_before
        assert merged.expires_after_seconds <= organization.expires_after_seconds

    def test_nothing_said_changes_nothing(self) -> None:
        assert stricter(STRICT, None) == STRICT
