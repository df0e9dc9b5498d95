"""Recomputing a whole trail from its rows, and saying what is wrong with it first. Pure; reads a trail once.

Nothing that is recorded beside the rows is trusted. Recorded leaves, links and seals serve to name the row
that was touched; whether the trail is what it was is decided by roots that were recomputed from the rows,
against checkpoints that were signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from steelyard.governance.audit import chain
from steelyard.governance.audit.checkpoints import open_checkpoint
from steelyard.governance.audit.leaves import LeafRow, hash_row
from steelyard.governance.audit.merkle import Frontier
from steelyard.governance.audit.notes import InvalidNote, Verifier
from steelyard.governance.audit.records import LooseRow, Record, Seal, SealedRow, place_of

_MOST_FAULTS = 20


class FaultKind(StrEnum):
    """What is wrong at a place."""

    CHANGED = "changed"
    """A row isn't what was sealed."""
    DELETED = "deleted"
    """A sealed row is gone."""
    INSERTED = "inserted"
    """A row stands among sealed ones, but was never sealed."""
    LEAF_MISSING = "leaf_missing"
    """The record of a row's leaf is gone."""
    CHAIN = "chain"
    """A row's link doesn't follow from the one before: leaves were changed, reordered or put in."""
    ORDER = "order"
    """Rows don't stand in the order in which they are sealed."""
    SEAL = "seal"
    """A seal doesn't fit the rows, or its signature doesn't hold."""
    TRUNCATED = "truncated"
    """The trail ends before the place up to which it was sealed."""
    CHECKPOINT = "checkpoint"
    """The trail isn't a continuation of a checkpoint that was kept."""


@dataclass(frozen=True)
class Fault:
    """Something wrong, with the row that it was found at, where there is one."""

    kind: FaultKind
    message: str
    row_id: int | None = None
    position: int | None = None


@dataclass(frozen=True)
class KeptCheckpoint:
    """A note that somebody kept, under the name that faults call it by."""

    name: str
    note: str


@dataclass(frozen=True)
class Report:
    """What a verification found. `faults` has the first in the order of the trail first, and not
    many more than 20."""

    size: int
    """Sealed rows."""
    root: bytes
    link: bytes
    seals: int
    unsealed: int
    """Rows that wait for the sealer, so nothing is said of them."""
    checkpoints: tuple[str, ...]
    """Names of the kept checkpoints that the trail was held against."""
    faults: tuple[Fault, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass
class TrailCheck:
    """Takes the records of a trail in the order that `repository.read_trail` gives them.

    Args:
        verifier: the log's public key.
        kept: checkpoints that the trail must contain.
    """

    verifier: Verifier
    kept: Sequence[KeptCheckpoint] = ()
    _seals: dict[int, Seal] = field(default_factory=dict[int, Seal], init=False)
    _kept_sizes: set[int] = field(default_factory=set[int], init=False)
    _roots: dict[int, bytes] = field(default_factory=dict[int, bytes], init=False)
    _tree: Frontier = field(default_factory=Frontier, init=False)
    _link: bytes = field(default=chain.ORIGIN, init=False)
    _recorded_link: bytes = field(default=chain.ORIGIN, init=False)
    _next_position: int = field(default=0, init=False)
    _place: tuple[int, int] = field(default=(-1, -1), init=False)
    _unsealed: int = field(default=0, init=False)
    _faults: list[Fault] = field(default_factory=list[Fault], init=False)

    def __post_init__(self) -> None:
        for kept in self.kept:
            try:
                self._kept_sizes.add(open_checkpoint(kept.note, self.verifier).size)
            except InvalidNote:
                continue

    def take(self, record: Record) -> None:
        """Look at the next record."""
        match record:
            case Seal():
                self._seals[record.size] = record
            case SealedRow():
                self._take_row(record)
            case LooseRow():
                self._take_loose(record.row)

    def finish(self) -> Report:
        """Say what came of it."""
        self._check_end()
        for kept in self.kept:
            self._check_kept(kept)
        return Report(
            size=self._tree.size,
            root=self._tree.root(),
            link=self._link,
            seals=len(self._seals),
            unsealed=self._unsealed,
            checkpoints=tuple(kept.name for kept in self.kept),
            faults=tuple(self._faults),
        )

    def _take_row(self, sealed: SealedRow) -> None:
        if sealed.position != self._next_position:
            self._blame(
                FaultKind.LEAF_MISSING,
                f"the record of position {self._next_position} is gone; the next is row {sealed.row_id}",
                sealed,
            )
        self._next_position = sealed.position + 1
        leaf = self._check_row(sealed)
        if chain.link(self._recorded_link, sealed.leaf) != sealed.link:
            self._blame(
                FaultKind.CHAIN,
                f"the chain breaks at row {sealed.row_id}: its link doesn't follow from the one before it",
                sealed,
            )
        self._recorded_link = sealed.link
        self._link = chain.link(self._link, leaf)
        self._tree = self._tree.append([leaf])
        if self._tree.size in self._kept_sizes:
            self._roots[self._tree.size] = self._tree.root()
        if seal := self._seals.get(self._tree.size):
            self._check_seal(seal, sealed)

    def _check_row(self, sealed: SealedRow) -> bytes:
        """Return the leaf hash that the row as it is now has."""
        if sealed.row is None:
            self._blame(FaultKind.DELETED, f"row {sealed.row_id} was sealed and is gone", sealed)
            return sealed.leaf
        leaf = hash_row(sealed.row)
        if leaf != sealed.leaf:
            self._blame(
                FaultKind.CHANGED,
                f"row {sealed.row_id} isn't what was sealed: its hash is {leaf.hex()}, "
                f"and {sealed.leaf.hex()} was recorded",
                sealed,
            )
        elif place_of(sealed.row) <= self._place:
            self._blame(FaultKind.ORDER, f"row {sealed.row_id} is out of its order", sealed)
        self._place = max(self._place, place_of(sealed.row))
        return leaf

    def _check_seal(self, seal: Seal, last: SealedRow) -> None:
        """Hold a seal against the rows up to it. A row that is known to be wrong would only show again."""
        if self._faults:
            return
        for problem in self._seal_problems(seal, last):
            self._blame(FaultKind.SEAL, f"the seal over {seal.size} rows {problem}", last)

    def _seal_problems(self, seal: Seal, last: SealedRow) -> list[str]:
        problems: list[str] = []
        if seal.root != self._tree.root() or seal.frontier != self._tree.pack():
            problems.append("has another root than the rows; one of those since the seal before was changed")
        if seal.link != last.link:
            problems.append("has another link than the last row")
        if last.row is not None and (seal.last_transaction, seal.last_row_id) != place_of(last.row):
            problems.append("names another last row")
        try:
            signed = open_checkpoint(seal.note, self.verifier)
        except InvalidNote as error:
            return [*problems, f"isn't signed by the key: {error}"]
        if (signed.size, signed.root) != (self._tree.size, self._tree.root()):
            problems.append("was signed over other rows")
        return problems

    def _take_loose(self, row: LeafRow) -> None:
        newest = self._seals[max(self._seals)] if self._seals else None
        if newest is None or place_of(row) > (newest.last_transaction, newest.last_row_id):
            self._unsealed += 1
            return
        self._blame(FaultKind.INSERTED, f"row {row['id']} stands among sealed rows and was never sealed", row)

    def _check_end(self) -> None:
        newest = max(self._seals, default=0)
        size = self._tree.size
        if size < newest:
            message = f"the trail was sealed over {newest} rows and has {size}: its end is gone"
            self._faults.append(Fault(FaultKind.TRUNCATED, message, position=size))
        if size > newest:
            message = f"{size - newest} rows have leaves, but no seal is over them: seals are gone"
            self._faults.append(Fault(FaultKind.SEAL, message, position=newest))

    def _check_kept(self, kept: KeptCheckpoint) -> None:
        try:
            checkpoint = open_checkpoint(kept.note, self.verifier)
        except InvalidNote as error:
            self._faults.append(Fault(FaultKind.CHECKPOINT, f"{kept.name} can't be trusted: {error}"))
            return
        size = checkpoint.size
        if size > self._tree.size:
            message = (
                f"{kept.name} is over {size} rows, and the trail has {self._tree.size} sealed ones: rows "
                "were removed, or the trail was made anew"
            )
            self._faults.append(Fault(FaultKind.CHECKPOINT, message, position=self._tree.size))
        elif size and self._roots.get(size) != checkpoint.root:
            message = (
                f"the first {size} rows aren't those that {kept.name} was signed over: "
                "the trail was rewritten"
            )
            self._faults.append(Fault(FaultKind.CHECKPOINT, message))

    def _blame(self, kind: FaultKind, message: str, at: SealedRow | LeafRow) -> None:
        if len(self._faults) >= _MOST_FAULTS:
            return
        if isinstance(at, SealedRow):
            self._faults.append(Fault(kind, message, at.row_id, at.position))
        else:
            self._faults.append(Fault(kind, message, place_of(at)[1]))
