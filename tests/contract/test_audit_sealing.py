"""Sealing: nothing skipped, nothing twice, whoever commits late or dies; and nobody may change a row."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from tests.audit_trails import ACTOR, SIGNER, Trail, tamper
from tests.databases import TestServer, make_engine

from steelyard.governance.audit import record
from steelyard.governance.audit.bucket import CheckpointBucket
from steelyard.governance.audit.checkpoints import open_checkpoint
from steelyard.governance.audit.keys import load_signer, load_verifier
from steelyard.governance.audit.notes import Verifier
from steelyard.governance.audit.publication import PUBLIC_KEY_NAME, CheckpointFolder
from steelyard.governance.audit.sealing import Sealer
from steelyard.governance.audit.verification import FaultKind
from steelyard.kit.errors import Conflict, PermissionDenied, TamperedTrail, Unavailable
from steelyard.storage.database import Database

_TABLES = ("audit_log", "audit_leaves", "audit_seals")
_SEALER = """
import asyncio, sys
from pathlib import Path
from steelyard.governance.audit.notes import Verifier
from steelyard.governance.audit.publication import CheckpointFolder
from steelyard.governance.audit.sealing import Sealer
from steelyard.storage.database import Database
from tests.audit_trails import SIGNER

async def main():
    sealer = Sealer(Database(sys.stdin.readline().strip()), SIGNER, [CheckpointFolder(Path(sys.argv[1]))],
                    batch_rows=3)
    print("ready", flush=True)
    while True:
        await sealer.seal_all()

asyncio.run(main())
"""


class FailingOnce:
    """A store that is away the first time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._failed = False

    def latest(self) -> str | None:
        return None

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        del note, moment, verifier
        if not self._failed:
            self._failed = True
            raise Unavailable("away")
        self.sizes.append(size)


@pytest.fixture
def trail(workers: Database, tmp_path: Path) -> Trail:
    return Trail(workers, tmp_path / "checkpoints")


class TestOrder:
    async def test_an_early_id_that_commits_late_is_sealed_too(self, trail: Trail) -> None:
        async with trail.database.transaction() as early:
            await record(early, ACTOR, "job.early", "job", "early")
            async with trail.database.transaction() as late:
                await record(late, ACTOR, "job.late", "job", "late")
            # The later one is visible, the earlier one isn't: none may be sealed yet.
            assert await trail.sealer().seal_all() == 0
        await trail.act()
        assert await trail.sealer().seal_all() == 3

        assert await _sealed_ids(trail) == [1, 2, 3]
        assert (await trail.verify()).intact

    async def test_an_early_transaction_that_writes_its_row_late(self, trail: Trail) -> None:
        async with trail.database.transaction() as early:
            await early.execute(text("SELECT pg_current_xact_id()"))
            await trail.act(2)
            assert await trail.sealer().seal_all() == 0
            await record(early, ACTOR, "job.early", "job", "early")
        assert await trail.sealer().seal_all() == 3

        # Its id is the highest, and its transaction the lowest.
        assert await _sealed_ids(trail) == [3, 1, 2]
        assert (await trail.verify()).intact

    async def test_rows_that_were_rolled_back_leave_no_gap(self, trail: Trail) -> None:
        async with trail.database.transaction() as session:
            await record(session, ACTOR, "job.submit", "job", "gone")
            await session.rollback()
        await trail.act(2)

        assert await trail.sealer().seal_all() == 2
        assert (await trail.verify()).size == 2

    async def test_many_writers_and_sealers_at_once(self, trail: Trail) -> None:
        writing = asyncio.gather(*(trail.act(15) for _ in range(8)))
        sealers = [trail.sealer(batch_rows=7) for _ in range(2)]
        while not writing.done():
            await asyncio.gather(*(sealer.seal_all() for sealer in sealers))
        await writing
        await trail.sealer().seal_all()

        report = await trail.verify()
        assert (report.size, report.unsealed, report.faults) == (120, 0, ())

    async def test_no_caller_chooses_moment_or_place(self, trail: Trail, superuser: Engine) -> None:
        async with trail.database.transaction() as session:
            await session.execute(
                text(
                    "INSERT INTO audit_log (at, actor, verb, object_kind, object_id, detail, transaction)"
                    " VALUES ('1999-01-01', 'a', 'v', 'k', 'o', '{}', '3')"
                )
            )
        with superuser.connect() as connection:
            at, transaction = connection.execute(text("SELECT at, transaction::text FROM audit_log")).one()
        assert at.year > 1999
        assert int(transaction) > 3


class TestDeath:
    async def test_killed_again_and_again_it_leaves_no_gap_and_no_double(
        self, trail: Trail, database_dsn: str
    ) -> None:
        for round_number in range(6):
            process = _start_sealer(database_dsn, trail.folder)
            try:
                await trail.act(7)
                # Ever later in its work.
                await _wait_until_sealed(trail, round_number * 7)
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        await _seal_up_to(trail, 42)

        report = await trail.verify()
        assert (report.size, report.unsealed, report.faults) == (42, 0, ())

    async def test_what_was_sealed_but_not_published_is_published_next(self, trail: Trail) -> None:
        await trail.act(2)
        await trail.sealer().seal()
        assert not trail.folder.exists()

        assert await trail.sealer().seal_all() == 0
        assert open_checkpoint(trail.latest().note, SIGNER.verifier).size == 2

    async def test_a_shelf_that_failed_gets_its_checkpoint_at_the_next_round(self, trail: Trail) -> None:
        shelf = FailingOnce()
        sealer = Sealer(trail.database, SIGNER, [CheckpointFolder(trail.folder), shelf])
        await trail.act(2)

        with pytest.raises(Unavailable):
            await sealer.seal_all()
        assert await sealer.seal_all() == 0
        assert shelf.sizes == [2]
        assert open_checkpoint(trail.latest().note, SIGNER.verifier).size == 2


class TestRewriting:
    async def test_a_trail_made_anew_is_found_by_an_old_checkpoint_alone(
        self, trail: Trail, superuser: Engine
    ) -> None:
        await trail.act(5)
        await trail.sealer().seal_all()
        old = trail.latest()
        tamper(
            superuser,
            "DELETE FROM audit_leaves",
            "DELETE FROM audit_seals",
            "UPDATE audit_log SET actor = 'user:mallory' WHERE id = 2",
        )
        for file in trail.folder.iterdir():
            file.unlink()
        await trail.sealer().seal_all()

        assert (await trail.verify()).intact
        faults = (await trail.verify(old)).faults
        assert [fault.kind for fault in faults] == [FaultKind.CHECKPOINT]

    async def test_it_goes_on_from_an_old_checkpoint(self, trail: Trail) -> None:
        await trail.act(3)
        await trail.sealer().seal_all()
        old = trail.latest()
        await trail.act(4)
        await trail.sealer().seal_all()

        report = await trail.verify(old)
        assert report.intact
        assert report.checkpoints == ("the newest", "the newest")

    async def test_nothing_is_signed_that_contradicts_what_was_published(
        self, trail: Trail, superuser: Engine
    ) -> None:
        await trail.act(3)
        await trail.sealer().seal_all()
        tamper(superuser, "DELETE FROM audit_leaves", "DELETE FROM audit_seals")

        with pytest.raises(TamperedTrail, match="steelyard audit verify"):
            await trail.sealer().seal_all()
        await trail.act(2)
        with pytest.raises(TamperedTrail):
            await trail.sealer().seal_all()

    async def test_a_checkpoint_of_another_key_stops_it(self, trail: Trail) -> None:
        await trail.act(1)
        await trail.sealer().seal_all()
        await trail.act(1)
        other = load_signer(trail.folder.parent / "audit.key")

        with pytest.raises(TamperedTrail, match="isn't signed by"):
            await Sealer(trail.database, other, [CheckpointFolder(trail.folder)]).seal_all()

    async def test_a_cluster_that_counts_from_lower_is_noticed(self, trail: Trail, superuser: Engine) -> None:
        await trail.act(1)
        await trail.sealer().seal_all()
        tamper(superuser, "UPDATE audit_seals SET last_transaction = '9000000000'")
        await trail.act(1)

        with pytest.raises(Conflict, match=r"pg_resetwal -e 2 -x 411065408"):
            await trail.sealer().seal()


class TestRights:
    @pytest.mark.parametrize("table", _TABLES)
    @pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_the_platform_may_change_nothing(
        self, trail: Trail, database_dsn: str, table: str, statement: str
    ) -> None:
        await trail.act(1)
        await trail.sealer().seal_all()

        with pytest.raises(ProgrammingError, match="permission denied"):
            _run_as(database_dsn, _fill(statement, table))

    @pytest.mark.parametrize("table", _TABLES)
    @pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_not_even_with_the_right_given_back(
        self, trail: Trail, database_dsn: str, table: str, statement: str
    ) -> None:
        await trail.act(1)
        await trail.sealer().seal_all()
        _run_as(database_dsn, f"GRANT ALL ON {table} TO steelyard")

        with pytest.raises(ProgrammingError, match="append-only"):
            _run_as(database_dsn, _fill(statement, table))

    @pytest.mark.parametrize("table", _TABLES)
    async def test_not_even_the_superuser_as_a_replica(
        self, trail: Trail, superuser: Engine, table: str
    ) -> None:
        await trail.act(1)
        await trail.sealer().seal_all()

        with superuser.connect() as connection:
            connection.execute(text("SET session_replication_role = replica"))
            with pytest.raises(ProgrammingError, match="append-only"):
                connection.execute(text(f"DELETE FROM {table}"))

    async def test_a_role_that_owns_nothing_inserts_and_no_more(
        self, trail: Trail, superuser: Engine, postgres_server: TestServer, database_name: str
    ) -> None:
        await trail.act(1)
        role = f"app_{database_name}"
        with superuser.connect() as connection:
            connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
            connection.execute(text(f"SELECT grant_application('{role}')"))
            connection.execute(text(f"GRANT CONNECT ON DATABASE {database_name} TO {role}"))
        dsn = f"postgresql://{role}:secret@/{database_name}?host={postgres_server.sockets}&port=5432"
        app = Trail(Database(dsn), trail.folder)

        await app.act(1)
        assert await app.sealer().seal_all() == 2
        assert (await app.verify()).intact
        await app.database.close()
        _run_as(dsn, "UPDATE projects SET id = id")
        for table in _TABLES:
            for statement in ("UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"):
                with pytest.raises(ProgrammingError, match="permission denied"):
                    _run_as(dsn, _fill(statement, table))
            with pytest.raises(ProgrammingError, match="must be owner"):
                _run_as(dsn, f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        with superuser.connect() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


class TestKeys:
    def test_the_key_is_made_once_and_is_private(self, tmp_path: Path) -> None:
        path = tmp_path / "secrets" / "audit.key"
        first = load_signer(path)

        assert load_signer(path) == first
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(path.parent.iterdir()) == [path]

    def test_two_logs_have_two_names(self, tmp_path: Path) -> None:
        assert load_signer(tmp_path / "one").name != load_signer(tmp_path / "other").name

    def test_a_key_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        load_signer(tmp_path / "audit.key")
        (tmp_path / "audit.key").chmod(0o640)

        with pytest.raises(PermissionDenied, match="chmod 600"):
            load_signer(tmp_path / "audit.key")


class TestShelves:
    def test_a_folder_keeps_the_newest_and_one_an_hour(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path)
        for size, hour in ((1, 7), (2, 7), (3, 8)):
            moment = datetime(2026, 1, 31, hour, 30, tzinfo=UTC)
            folder.publish(size, f"note {size}", moment, SIGNER.verifier)

        assert folder.latest() == "note 3"
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "audit.pub": f"{SIGNER.verifier}\n",
            "latest.checkpoint": "note 3",
            "2026-01-31T07Z.checkpoint": "note 2",
            "2026-01-31T08Z.checkpoint": "note 3",
        }
        assert load_verifier(tmp_path / PUBLIC_KEY_NAME) == SIGNER.verifier

    def test_a_bucket_keeps_every_one_and_overwrites_none(self, tmp_path: Path) -> None:
        bucket = CheckpointBucket.from_url(f"file://{tmp_path}")
        moment = datetime(2026, 1, 31, tzinfo=UTC)
        for _ in range(2):
            bucket.publish(7, "first", moment, SIGNER.verifier)
        with pytest.raises(TamperedTrail, match="another checkpoint over 7 rows"):
            bucket.publish(7, "second", moment, SIGNER.verifier)

        assert (tmp_path / "00000000000000000007.checkpoint").read_text() == "first"
        assert (tmp_path / "audit.pub").read_text() == f"{SIGNER.verifier}\n"


def _start_sealer(dsn: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SEALER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{dsn}\n")
    process.stdin.close()
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


async def _wait_until_sealed(trail: Trail, at_least: int) -> None:
    deadline = time.monotonic() + 20
    while len(await _sealed_ids(trail)) <= at_least:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def _seal_up_to(trail: Trail, size: int) -> None:
    """The server may notice only later that a killed sealer is gone; its transaction holds back till then."""
    async with asyncio.timeout(20):
        while len(await _sealed_ids(trail)) < size:
            await trail.sealer().seal_all()


async def _sealed_ids(trail: Trail) -> list[int]:
    async with trail.database.transaction() as session:
        return list(await session.scalars(text("SELECT row_id FROM audit_leaves ORDER BY position")))


def _fill(statement: str, table: str) -> str:
    column = {"audit_log": "actor = ''", "audit_leaves": "leaf = ''", "audit_seals": "note = ''"}[table]
    return statement.format(table, column)


def _run_as(dsn: str, statement: str) -> None:
    engine = make_engine(dsn)
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
