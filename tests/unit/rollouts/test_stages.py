"""The order of stages, and where a rollback goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rollouts.stages import Move, refuse_stage, version_before
from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import Alias

POLICY = ApprovalPolicy(approvers=0)


def moves(text: str) -> list[Move]:
    """`p1 p2 r1`: promoted to 1, to 2, rolled back to 1."""
    return [Move("promotion" if word[0] == "p" else "rollback", int(word[1:])) for word in text.split()]


class TestOrder:
    @pytest.mark.parametrize(
        ("target", "reached", "allowed"),
        [
            (Alias.DEV, (), True),
            (Alias.STAGING, (), False),
            (Alias.STAGING, (Alias.DEV,), True),
            (Alias.PROD, (Alias.DEV,), False),
            (Alias.PROD, (Alias.STAGING,), True),
        ],
    )
    def test_a_version_goes_through_the_stages(
        self, target: Alias, reached: tuple[Alias, ...], allowed: bool
    ) -> None:
        assert (refuse_stage(target, 3, POLICY, frozenset(reached), "chat") is None) is allowed

    def test_the_refusal_names_the_command(self) -> None:
        reason = refuse_stage(Alias.PROD, 3, POLICY, frozenset(), "chat")
        assert reason is not None
        assert "steelyard models promote chat@3 --to staging" in reason

    def test_a_policy_may_let_a_stage_out(self) -> None:
        policy = ApprovalPolicy(approvers=0, requires_stage_before=False)
        assert refuse_stage(Alias.PROD, 3, policy, frozenset(), "chat") is None


class TestWayBack:
    @pytest.mark.parametrize(
        ("log", "expected"),
        [
            ("", None),
            ("p1", None),
            ("p1 p2", 1),
            ("p1 p2 p3 r2", 1),
            ("p1 p2 r1", None),
            ("p1 p2 r1 p3", 1),
            ("p1 p2 p3 r1", None),
            ("p1 p2 p1", 2),
            ("p1 p2 p3 r2 p4 r2", 1),
        ],
    )
    def test_it_is_the_version_before_and_never_what_was_left(self, log: str, expected: int | None) -> None:
        assert version_before(moves(log)) == expected

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
    def test_rolling_back_again_and_again_ends(self, promoted: list[int]) -> None:
        log = [Move("promotion", version) for version in promoted]
        for _ in range(len(promoted)):
            target = version_before(log)
            if target is None:
                return
            log.append(Move("rollback", target))
        pytest.fail("it went round")
