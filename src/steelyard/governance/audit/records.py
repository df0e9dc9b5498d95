"""What a trail consists of, whether read from the database or from an export."""

from dataclasses import dataclass

from steelyard.governance.audit.leaves import LeafRow


@dataclass(frozen=True)
class Seal:
    """The state of the trail after one round of sealing, as it is recorded."""

    size: int
    root: bytes
    link: bytes
    frontier: bytes
    last_transaction: int
    last_row_id: int
    note: str


@dataclass(frozen=True)
class SealedRow:
    """A leaf as it is recorded, and the row that it is said to be of; None where that row isn't there."""

    position: int
    row_id: int
    leaf: bytes
    link: bytes
    row: LeafRow | None


@dataclass(frozen=True)
class LooseRow:
    """A row that no leaf is recorded for: younger than the last round of sealing, or not rightly there."""

    row: LeafRow


Record = Seal | SealedRow | LooseRow


def place_of(row: LeafRow) -> tuple[int, int]:
    """Return what rows are sealed in the order of: transaction, then id."""
    return int(row["transaction"] or 0), int(row["id"] or 0)
