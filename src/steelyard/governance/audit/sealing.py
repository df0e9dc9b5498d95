"""The sealer: puts rows into their one order, hashes them, signs what came out, and shows it to the outside.

Crash-only. A round is one transaction, so it is there whole or not at all; what it signed is published after
it, and published again by whoever comes next if the process died in between. Any number of sealers may run:
an advisory lock lets one work at a time, and goes with its transaction.
"""

import asyncio
from collections.abc import Sequence

import structlog

from steelyard.governance.audit import chain, repository
from steelyard.governance.audit.checkpoints import open_checkpoint, sign_checkpoint
from steelyard.governance.audit.leaves import LeafRow, hash_row
from steelyard.governance.audit.merkle import Frontier
from steelyard.governance.audit.notes import InvalidNote, Signer
from steelyard.governance.audit.publication import Shelf
from steelyard.governance.audit.records import Seal, SealedRow, place_of
from steelyard.kit.clock import Clock, utc_now
from steelyard.kit.errors import Conflict, SteelyardError, TamperedTrail
from steelyard.storage.database import Database

BATCH_ROWS = 5000
_ROUND_SECONDS = 3.0
_log = structlog.get_logger()


class Sealer:
    """Seals the trail of one database.

    Args:
        database: the trail's.
        signer: the log's key.
        shelves: where checkpoints go. The database must agree with the first that knows its newest.
        clock: gives the hour under which a checkpoint is kept.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        shelves: Sequence[Shelf],
        *,
        batch_rows: int = BATCH_ROWS,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._signer = signer
        self._shelves = shelves
        self._batch_rows = batch_rows
        self._clock = clock

    async def run(self) -> None:
        """Seal every three seconds until cancelled; a failed round is tried again."""
        while True:
            try:
                await self.seal_all()
            except (SteelyardError, OSError) as error:
                _log.error("the audit trail could not be sealed", error=str(error))
            await asyncio.sleep(_ROUND_SECONDS)

    async def seal_all(self) -> int:
        """Seal whatever can be sealed now, and publish it. Returns how many rows that were."""
        total = 0
        while sealed := await self.seal():
            total += sealed
            if sealed < self._batch_rows:
                break
        await self.publish()
        return total

    async def seal(self) -> int:
        """Do one round; returns how many rows it sealed: 0 where there was nothing, or another is at it.

        Raises:
            TamperedTrail: the database doesn't agree with the newest published checkpoint.
            Conflict: the database was restored into a cluster whose transactions count from a lower number.
        """
        async with self._database.transaction() as session:
            if not await repository.take_lead(session):
                return 0
            await repository.open_trail(session)
            last = await repository.last_seal(session)
            if last and await repository.newest_transaction(session) <= last.last_transaction:
                raise _counts_from_lower(last.last_transaction)
            rows = await repository.next_rows(session, last, self._batch_rows)
            if not rows:
                return 0
            if (published := await self._published()) is not None:
                sealed_root = await repository.root_at(session, published[0])
                _check_published(*published, last.size if last else 0, sealed_root)
            leaves, seal = grow(last, rows, self._signer)
            await repository.append_seal(session, leaves, seal)
        return len(rows)

    async def publish(self) -> None:
        """Show the newest checkpoint to the outside, unless it is there or another is at it.

        Raises:
            TamperedTrail: a newer one, or another of its size, has been published already.
        """
        async with self._database.transaction() as session:
            if not await repository.take_lead(session):
                return
            last = await repository.last_seal(session)
            published = await self._published()
            if published is not None:
                sealed_root = await repository.root_at(session, published[0])
                _check_published(*published, last.size if last else 0, sealed_root)
            if last is None or (published is not None and published[0] == last.size):
                return
            moment = self._clock()
            # The first one tells the next round that all is done, so it comes last.
            for shelf in reversed(self._shelves):
                await asyncio.to_thread(shelf.publish, last.size, last.note, moment, self._signer.verifier)

    async def _published(self) -> tuple[int, bytes] | None:
        for shelf in self._shelves:
            note = await asyncio.to_thread(shelf.latest)
            if note is None:
                continue
            try:
                checkpoint = open_checkpoint(note, self._signer.verifier)
            except InvalidNote as error:
                raise TamperedTrail(
                    f"the newest published checkpoint can't be trusted: {error}; `steelyard audit verify` "
                    "says more. Nothing is sealed until the checkpoint or the key that made it is back"
                ) from error
            return checkpoint.size, checkpoint.root
        return None


def grow(last: Seal | None, rows: Sequence[LeafRow], signer: Signer) -> tuple[list[SealedRow], Seal]:
    """Return the leaves of `rows`, which follow `last`, and the seal over all of them. Pure."""
    size = last.size if last else 0
    hashes = [hash_row(row) for row in rows]
    links = chain.extend(last.link if last else chain.ORIGIN, hashes)
    frontier = Frontier.unpack(size, last.frontier if last else b"").append(hashes)
    leaves = [
        SealedRow(size + number, place_of(row)[1], leaf, link, row)
        for number, (row, leaf, link) in enumerate(zip(rows, hashes, links, strict=True))
    ]
    transaction, row_id = place_of(rows[-1])
    root = frontier.root()
    note = sign_checkpoint(frontier.size, root, signer)
    return leaves, Seal(frontier.size, root, links[-1], frontier.pack(), transaction, row_id, note)


def _check_published(size: int, root: bytes, sealed_size: int, sealed_root: bytes | None) -> None:
    if size == 0 or root == sealed_root:
        return
    problem = (
        f"the database holds {sealed_size} sealed rows, but a checkpoint over {size} was published"
        if size > sealed_size
        else f"the database's root over {size} rows isn't the one that was published"
    )
    raise TamperedTrail(
        f"{problem}. Nothing more is sealed: `steelyard audit verify` finds out what was changed. If the "
        "database was restored from an older backup on purpose, keep the folder of checkpoints as evidence, "
        "and move it and the audit key away; then a new log begins"
    )


def _counts_from_lower(transaction: int) -> Conflict:
    epoch, number = divmod(transaction + 1_000_000, 1 << 32)
    return Conflict(
        "the database was restored into another PostgreSQL cluster, whose transactions have lower numbers "
        f"than those already sealed; stop it and run `pg_resetwal -e {epoch} -x {number}` on its data once"
    )
