"""The order of the stages, and the way back. Pure."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from steelyard.specs.policies import ApprovalPolicy
from steelyard.specs.promotions import Alias

_BEFORE = {Alias.STAGING: Alias.DEV, Alias.PROD: Alias.STAGING}


class Move(NamedTuple):
    """One line of the transition log, as far as the order of versions goes."""

    kind: Literal["promotion", "rollback"]
    to_version: int


def refuse_stage(
    target: Alias, version: int, policy: ApprovalPolicy, reached: frozenset[Alias], name: str
) -> str | None:
    """Say why a version may not go to a stage yet, or return None.

    Args:
        reached: stages whose alias has pointed to the version.
        name: of the model, for the message.
    """
    before = _BEFORE.get(target)
    if before is None or not policy.requires_stage_before or before in reached:
        return None
    return (
        f"{name}@{version} was never in {before}; "
        f"'steelyard models promote {name}@{version} --to {before}' comes first"
    )


def version_before(moves: Iterable[Move]) -> int | None:
    """Return the version to go back to, or None where there is none.

    A rollback takes what it left off the pile, so that two in a row go back two versions and never return
    to what was found bad.

    Args:
        moves: of one alias, oldest first.
    """
    pile = _pile(moves)
    return pile[-2] if len(pile) > 1 else None


def _pile(moves: Iterable[Move]) -> list[int]:
    pile: list[int] = []
    for move in moves:
        if move.kind == "rollback" and move.to_version in pile:
            while pile[-1] != move.to_version:
                pile.pop()
        elif not pile or pile[-1] != move.to_version:
            pile.append(move.to_version)
    return pile
