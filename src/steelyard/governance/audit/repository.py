"""All SQL on the trail, its leaves and its seals."""

# Queries are put together from constants of this file alone.
# ruff: noqa: S608

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.audit.leaves import COLUMNS, INTEGERS, LeafRow
from steelyard.governance.audit.records import LooseRow, Record, Seal, SealedRow, place_of
from steelyard.storage.scopes import enter_installation

_LOCK = 7_316_111
_PAGE = 5000
_ROW = ", ".join(f'r."{name}"::text' for name in COLUMNS)
_SEAL = "size, root, link, frontier, last_transaction::text, last_row_id, note"
_BEFORE_ALL = Seal(0, b"", b"", b"", 0, 0, "")


async def take_lead(session: AsyncSession) -> bool:
    """Become the only sealer until the transaction ends; False where another one is at it."""
    return bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}))


async def open_trail(session: AsyncSession) -> None:
    """Let the rest of the transaction see all rows, with moments written as leaves have them."""
    await enter_installation(session, "read")
    await session.execute(
        text("SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true)")
    )


async def freeze(session: AsyncSession) -> None:
    """Let the transaction see one state of the database to its end. Call before anything else in it."""
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    await session.execute(text("SET LOCAL statement_timeout = 0"))


async def last_seal(session: AsyncSession) -> Seal | None:
    """Return the newest seal."""
    result = await session.execute(text(f"SELECT {_SEAL} FROM audit_seals ORDER BY size DESC LIMIT 1"))
    return next((_seal(row[:]) for row in result), None)


async def root_at(session: AsyncSession, size: int) -> bytes | None:
    """Return the root that was sealed at a size; None where there was no round of that size."""
    return await session.scalar(text("SELECT root FROM audit_seals WHERE size = :size"), {"size": size})


async def newest_transaction(session: AsyncSession) -> int:
    """Return the number that the cluster's next transaction will get."""
    query = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(await session.scalar(query) or 0)


async def next_rows(session: AsyncSession, last: Seal | None, limit: int) -> list[LeafRow]:
    """Return the rows to seal next.

    Only rows of transactions older than the oldest that still runs: nothing can appear among those any more,
    so none is skipped that commits late with an early id. The bound and the rows are of one snapshot.
    """
    place = last or _BEFORE_ALL
    rows = await session.execute(
        text(
            f"SELECT {_ROW} FROM audit_log r"
            " WHERE (r.transaction, r.id) > (CAST(CAST(:transaction AS text) AS xid8), :id)"
            " AND r.transaction < pg_snapshot_xmin(pg_current_snapshot())"
            " ORDER BY r.transaction, r.id LIMIT :limit"
        ),
        {"transaction": str(place.last_transaction), "id": place.last_row_id, "limit": limit},
    )
    return [_leaf_row(row[:]) for row in rows]


async def append_seal(session: AsyncSession, leaves: Sequence[SealedRow], seal: Seal) -> None:
    """Write a round of sealing."""
    await session.execute(
        text(
            "INSERT INTO audit_leaves (position, row_id, leaf, link) SELECT * FROM unnest("
            "CAST(:positions AS bigint[]), CAST(:row_ids AS bigint[]),"
            " CAST(:leaves AS bytea[]), CAST(:links AS bytea[]))"
        ),
        {
            "positions": [leaf.position for leaf in leaves],
            "row_ids": [leaf.row_id for leaf in leaves],
            "leaves": [leaf.leaf for leaf in leaves],
            "links": [leaf.link for leaf in leaves],
        },
    )
    await session.execute(
        text(
            "INSERT INTO audit_seals (size, root, link, frontier, last_transaction, last_row_id, note) VALUES"
            " (:size, :root, :link, :frontier, CAST(CAST(:last_transaction AS text) AS xid8), :last_row_id,"
            " :note)"
        ),
        vars(seal) | {"last_transaction": str(seal.last_transaction)},
    )


async def leaf_hashes(session: AsyncSession, size: int) -> list[bytes]:
    """Return the recorded hashes of the first `size` leaves: 32 bytes each."""
    query = text("SELECT leaf FROM audit_leaves WHERE position < :size ORDER BY position")
    return list(await session.scalars(query, {"size": size}))


async def find_sealed(session: AsyncSession, row_id: int) -> SealedRow | None:
    """Return a row with its leaf; None where it is not there or not sealed yet."""
    result = await session.execute(
        text(
            f"SELECT l.position, l.row_id, l.leaf, l.link, {_ROW} FROM audit_leaves l"
            " JOIN audit_log r ON r.id = l.row_id WHERE l.row_id = :row_id"
        ),
        {"row_id": row_id},
    )
    return next((_sealed_row(row[:]) for row in result), None)


async def read_seals(session: AsyncSession) -> list[Seal]:
    """Return all seals, oldest first."""
    rows = await session.execute(text(f"SELECT {_SEAL} FROM audit_seals ORDER BY size"))
    return [_seal(row[:]) for row in rows]


async def read_trail(session: AsyncSession) -> AsyncIterator[Record]:
    """Give the whole trail: seals, then sealed rows by position, then loose rows in sealing order."""
    await open_trail(session)
    for seal in await read_seals(session):
        yield seal
    position = -(1 << 62)
    while leaves := await _leaf_page(session, position):
        for leaf in leaves:
            yield leaf
        position = leaves[-1].position + 1
    place = (0, -(1 << 62))
    while loose := await _loose_page(session, place):
        for row in loose:
            yield LooseRow(row)
        place = place_of(loose[-1])


async def _leaf_page(session: AsyncSession, position: int) -> list[SealedRow]:
    rows = await session.execute(
        text(
            f"SELECT l.position, l.row_id, l.leaf, l.link, {_ROW} FROM audit_leaves l"
            " LEFT JOIN audit_log r ON r.id = l.row_id"
            " WHERE l.position >= :position ORDER BY l.position LIMIT :limit"
        ),
        {"position": position, "limit": _PAGE},
    )
    return [_sealed_row(row[:]) for row in rows]


async def _loose_page(session: AsyncSession, place: tuple[int, int]) -> list[LeafRow]:
    rows = await session.execute(
        text(
            f"SELECT {_ROW} FROM audit_log r LEFT JOIN audit_leaves l ON l.row_id = r.id"
            " WHERE l.row_id IS NULL"
            " AND (r.transaction, r.id) > (CAST(CAST(:transaction AS text) AS xid8), :id)"
            " ORDER BY r.transaction, r.id LIMIT :limit"
        ),
        {"transaction": str(place[0]), "id": place[1], "limit": _PAGE},
    )
    return [_leaf_row(row[:]) for row in rows]


def _seal(columns: Sequence[Any]) -> Seal:
    size, root, link, frontier, transaction, row_id, note = columns
    return Seal(size, root, link, frontier, int(transaction), row_id, note)


def _sealed_row(columns: Sequence[Any]) -> SealedRow:
    position, row_id, leaf, link, *row = columns
    return SealedRow(position, row_id, leaf, link, None if row[0] is None else _leaf_row(row))


def _leaf_row(columns: Sequence[str | None]) -> LeafRow:
    named = zip(COLUMNS, columns, strict=True)
    return {name: int(value) if value and name in INTEGERS else value for name, value in named}
