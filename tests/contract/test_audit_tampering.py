"""Whoever owns the database can write what he likes into it, and is found out each time."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from tests.audit_trails import Trail, tamper

from steelyard.governance.audit import leaves
from steelyard.governance.audit.verification import FaultKind
from steelyard.storage.database import Database

ROWS = 6
# Each is as small a change of the column as there can be.
CHANGES = {
    "id": "id + 1000",
    "at": "at + interval '1 microsecond'",
    "detail": "jsonb_set(detail, '{number}', to_jsonb((detail->>'number')::numeric || '.0'))",
    "outcome": "'refused'",
    "transaction": "(transaction::text::numeric + 1)::text::xid8",
}
EMPTIED = ("project_id", "request_id", "source", "before_digest", "after_digest")
WHOLE_CHANGES = [
    "at = at - interval '1 year'",
    "at = 'infinity'",
    "at = (at::text || ' BC')::timestamptz",
    "detail = '{}'",
    "detail = detail || '{\"more\": null}'",
    "detail = jsonb_set(detail, '{share}', '0.50')",
    "transaction = '18446744073709551615'",
    "actor = actor || ' '",
    "actor = ''",
]


@pytest.fixture
async def trail(workers: Database, tmp_path: Path) -> Trail:
    """Six rows, sealed in two rounds of three."""
    trail = Trail(workers, tmp_path / "checkpoints")
    await trail.act(ROWS)
    assert await trail.sealer(batch_rows=3).seal_all() == ROWS
    assert (await trail.verify()).intact
    return trail


async def test_an_untouched_trail_is_intact(trail: Trail) -> None:
    report = await trail.verify()

    assert (report.size, report.seals, report.unsealed, report.faults) == (ROWS, 2, 0, ())
    assert report.checkpoints == ("the newest",)


def test_every_column_of_the_table_is_hashed(superuser: Engine) -> None:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'audit_log'"
    with superuser.connect() as connection:
        assert set(connection.scalars(text(query))) == set(leaves.COLUMNS)


@pytest.mark.parametrize("column", leaves.COLUMNS)
async def test_any_column_of_any_row(trail: Trail, superuser: Engine, column: str) -> None:
    # The last character goes to the next one, or the value to its nearest other.
    bent = CHANGES.get(column, f"left({column}, -1) || chr(ascii(right({column}, 1)) + 1)")
    for row_id in range(1, ROWS + 1):
        await _changed_and_put_back(trail, superuser, f"{column} = {bent}", row_id)


@pytest.mark.parametrize("change", WHOLE_CHANGES)
async def test_changes_that_a_careless_form_would_not_show(
    trail: Trail, superuser: Engine, change: str
) -> None:
    await _changed_and_put_back(trail, superuser, change, 3)


@pytest.mark.parametrize("column", EMPTIED)
async def test_nothing_and_the_empty_text_differ(trail: Trail, superuser: Engine, column: str) -> None:
    await _changed_and_put_back(trail, superuser, f"{column} = NULL", 2)
    await _changed_and_put_back(trail, superuser, f"{column} = ''", 2)


async def test_text_moved_from_one_column_to_the_next(trail: Trail, superuser: Engine) -> None:
    await _changed_and_put_back(
        trail,
        superuser,
        "object_kind = object_kind || left(object_id, 1), object_id = substr(object_id, 2)",
        4,
    )


@pytest.mark.parametrize("row_id", range(1, ROWS + 1))
async def test_a_deleted_row(trail: Trail, superuser: Engine, row_id: int) -> None:
    tamper(superuser, f"DELETE FROM audit_log WHERE id = {row_id}")

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].row_id) == (FaultKind.DELETED, row_id)


@pytest.mark.parametrize("row_id", range(1, ROWS + 1))
async def test_a_row_deleted_with_its_leaf(trail: Trail, superuser: Engine, row_id: int) -> None:
    tamper(
        superuser,
        f"DELETE FROM audit_log WHERE id = {row_id}",
        f"DELETE FROM audit_leaves WHERE row_id = {row_id}",
    )

    faults = (await trail.verify()).faults
    assert faults
    assert faults[0].position in (row_id - 1, row_id)


async def test_a_row_deleted_and_the_positions_closed_up(trail: Trail, superuser: Engine) -> None:
    tamper(
        superuser,
        "DELETE FROM audit_log WHERE id = 3",
        "DELETE FROM audit_leaves WHERE row_id = 3",
        "UPDATE audit_leaves SET position = -position WHERE position > 2",
        "UPDATE audit_leaves SET position = -position - 1 WHERE position < 0",
    )

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].row_id) == (FaultKind.CHAIN, 4)


async def test_a_leaf_deleted_alone(trail: Trail, superuser: Engine) -> None:
    tamper(superuser, "DELETE FROM audit_leaves WHERE row_id = 3")

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].position) == (FaultKind.LEAF_MISSING, 3)
    assert (FaultKind.INSERTED, 3) in {(fault.kind, fault.row_id) for fault in faults}


async def test_an_inserted_row(trail: Trail, superuser: Engine) -> None:
    tamper(superuser, _INSERT)

    faults = (await trail.verify()).faults
    assert [(fault.kind, fault.row_id) for fault in faults] == [(FaultKind.INSERTED, 100)]


async def test_an_inserted_row_with_a_leaf_in_between(trail: Trail, superuser: Engine) -> None:
    tamper(
        superuser,
        _INSERT,
        "UPDATE audit_leaves SET position = -position WHERE position > 2",
        "UPDATE audit_leaves SET position = -position + 1 WHERE position < 0",
        "INSERT INTO audit_leaves SELECT 3, 100, leaf, link FROM audit_leaves WHERE position = 2",
    )

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].row_id) == (FaultKind.CHANGED, 100)


async def test_two_rows_that_changed_places(trail: Trail, superuser: Engine) -> None:
    tamper(
        superuser,
        "UPDATE audit_leaves SET position = -3 WHERE position = 2",
        "UPDATE audit_leaves SET position = 2 WHERE position = 1",
        "UPDATE audit_leaves SET position = 1 WHERE position = -3",
    )

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].row_id) == (FaultKind.CHAIN, 3)


async def test_two_rows_that_changed_their_ids(trail: Trail, superuser: Engine) -> None:
    tamper(
        superuser,
        "UPDATE audit_log SET id = 1000 WHERE id = 2",
        "UPDATE audit_log SET id = 2 WHERE id = 3",
        "UPDATE audit_log SET id = 3 WHERE id = 1000",
    )

    faults = (await trail.verify()).faults
    assert [(fault.kind, fault.row_id) for fault in faults[:2]] == [
        (FaultKind.CHANGED, 2),
        (FaultKind.CHANGED, 3),
    ]


async def test_the_end_cut_off(trail: Trail, superuser: Engine) -> None:
    tamper(superuser, "DELETE FROM audit_log WHERE id > 4", "DELETE FROM audit_leaves WHERE row_id > 4")

    assert FaultKind.TRUNCATED in {fault.kind for fault in (await trail.verify()).faults}


async def test_the_end_cut_off_with_its_seal(trail: Trail, superuser: Engine) -> None:
    tamper(
        superuser,
        "DELETE FROM audit_log WHERE id > 3",
        "DELETE FROM audit_leaves WHERE row_id > 3",
        "DELETE FROM audit_seals WHERE size > 3",
    )

    faults = (await trail.verify()).faults
    assert [fault.kind for fault in faults] == [FaultKind.CHECKPOINT]
    assert "over 6 rows" in faults[0].message


async def test_everything_deleted(trail: Trail, superuser: Engine) -> None:
    tamper(superuser, "DELETE FROM audit_log", "DELETE FROM audit_leaves", "DELETE FROM audit_seals")

    assert [fault.kind for fault in (await trail.verify()).faults] == [FaultKind.CHECKPOINT]


async def test_a_seal_deleted(trail: Trail, superuser: Engine) -> None:
    tamper(superuser, "DELETE FROM audit_seals WHERE size = 6")

    assert FaultKind.SEAL in {fault.kind for fault in (await trail.verify()).faults}


@pytest.mark.parametrize(
    "change",
    [
        "root = sha256(root)",
        "link = sha256(link)",
        "frontier = sha256(frontier)",
        "last_row_id = last_row_id - 1",
        "last_transaction = (last_transaction::text::numeric - 1)::text::xid8",
        "note = replace(note, 'audit', 'audio')",
        "note = (SELECT note FROM audit_seals WHERE size = 3)",
    ],
)
async def test_a_seal_changed(trail: Trail, superuser: Engine, change: str) -> None:
    tamper(superuser, f"UPDATE audit_seals SET {change} WHERE size = 6")

    faults = (await trail.verify()).faults
    assert (faults[0].kind, faults[0].row_id) == (FaultKind.SEAL, 6)


@pytest.mark.parametrize("column", ["leaf", "link"])
async def test_a_leaf_changed(trail: Trail, superuser: Engine, column: str) -> None:
    tamper(superuser, f"UPDATE audit_leaves SET {column} = sha256({column}) WHERE row_id = 3")

    faults = (await trail.verify()).faults
    assert faults[0].row_id == 3


async def _changed_and_put_back(trail: Trail, superuser: Engine, change: str, row_id: int) -> None:
    with superuser.connect() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS untouched AS TABLE audit_log"))
    tamper(superuser, f"UPDATE audit_log SET {change} WHERE id = {row_id}")

    faults = (await trail.verify()).faults
    assert faults[0].row_id == row_id
    assert faults[0].kind in (FaultKind.CHANGED, FaultKind.DELETED)

    tamper(
        superuser,
        "DELETE FROM audit_log",
        "INSERT INTO audit_log OVERRIDING SYSTEM VALUE TABLE untouched",
    )
    assert (await trail.verify()).intact


_INSERT = """
    INSERT INTO audit_log OVERRIDING SYSTEM VALUE
    SELECT 100, at, actor, verb, object_kind, object_id, project_id, request_id, source, before_digest,
        after_digest, detail, outcome, transaction
    FROM audit_log WHERE id = 3
"""
