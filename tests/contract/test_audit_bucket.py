"""Audit checkpoints in a bucket with object lock: kept, locked, never rewritten, and believed before us."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store, from_url
from sqlalchemy import Engine
from tests.audit_trails import SIGNER, Trail, tamper
from tests.object_buckets import gate_to
from tests.remote_stores import Bucket, point_to, serve_bucket

from steelyard.governance.audit import repository
from steelyard.governance.audit.bucket import CheckpointBucket
from steelyard.governance.audit.checkpoints import open_checkpoint
from steelyard.governance.audit.notes import Signer
from steelyard.governance.audit.publication import CheckpointFolder
from steelyard.governance.audit.sealing import Sealer
from steelyard.governance.audit.verification import KeptCheckpoint, TrailCheck
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import TamperedTrail
from steelyard.storage.database import Database

_LOCK = (
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
)
_MOMENT = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Generator[Bucket]:
    with serve_bucket("plain") as served:
        yield served


@pytest.fixture
def store(
    server: Bucket, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Generator[S3Store]:
    """A bucket of its own with object lock, and thirty days of retention for all that is put there.

    S3 takes a put into such a bucket with a Content-MD5 or an `x-amz-checksum-` header alone. This server
    knows the first and the header by which SDKs announce the second, so that one is put in where the checksum
    is there, and nowhere else.
    """
    with gate_to(server.endpoint) as gate:
        gate.adds = lambda headers: (
            {"x-amz-sdk-checksum-algorithm": "SHA256"} if "x-amz-checksum-sha256" in headers else {}
        )
        point_to(monkeypatch, gate.endpoint)
        yield _make_locked(server, request.node.name)


def _make_locked(server: Bucket, test: str) -> S3Store:
    name = f"locked-{digest_bytes(test.encode())[7:19]}"
    locked = {"x-amz-bucket-object-lock-enabled": "true"}
    httpx.put(f"{server.endpoint}/{name}", headers=locked).raise_for_status()
    httpx.put(f"{server.endpoint}/{name}?object-lock", content=_LOCK).raise_for_status()
    store = from_url(f"s3://{name}/audit", config={"checksum_algorithm": "SHA256"})
    assert isinstance(store, S3Store)
    return store


def _url(store: S3Store) -> str:
    return f"s3://{store.config['bucket']}/audit"  # pyright: ignore[reportTypedDictNotRequiredAccess]


def _headers(store: S3Store, name: str) -> httpx.Headers:
    return httpx.head(obstore.sign(store, "HEAD", name, timedelta(minutes=5))).headers


async def test_every_checkpoint_is_locked_for_its_time_and_proves_the_trail(
    store: S3Store, database: Database, tmp_path: Path
) -> None:
    trail = Trail(database, tmp_path)
    shelves = [CheckpointFolder(tmp_path), CheckpointBucket.from_url(_url(store))]
    sealer = Sealer(database, SIGNER, shelves)
    for count in (3, 2):
        await trail.act(count)
        await sealer.seal_all()
    for name in ("audit.pub", f"{3:020}.checkpoint", f"{5:020}.checkpoint"):
        headers = _headers(store, name)
        assert headers["x-amz-object-lock-mode"] == "COMPLIANCE"
        until = datetime.fromisoformat(headers["x-amz-object-lock-retain-until-date"])
        assert until > datetime.now(UTC) + timedelta(days=29)
    note = bytes(obstore.get(store, f"{3:020}.checkpoint").bytes()).decode()
    assert open_checkpoint(note, SIGNER.verifier).size == 3
    assert (await trail.verify(KeptCheckpoint("of the bucket", note))).faults == ()


def test_a_checkpoint_is_never_rewritten_and_its_version_cant_be_removed(store: S3Store) -> None:
    bucket = CheckpointBucket.from_url(_url(store))
    bucket.publish(7, "first", _MOMENT, SIGNER.verifier)
    bucket.publish(7, "first", _MOMENT, SIGNER.verifier)
    with pytest.raises(TamperedTrail, match="another checkpoint over 7 rows"):
        bucket.publish(7, "second", _MOMENT, SIGNER.verifier)
    other = Signer(SIGNER.name, bytes(reversed(range(32))))
    with pytest.raises(TamperedTrail, match="another key"):
        bucket.publish(8, "third", _MOMENT, other.verifier)
    name = f"{7:020}.checkpoint"
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, name, b"second", mode="create")
    version = obstore.head(store, name)["version"]
    assert version is not None
    url = obstore.sign(store, "DELETE", name, timedelta(minutes=5))
    assert httpx.delete(f"{url}&versionId={version}").status_code == 403
    assert bytes(obstore.get(store, name).bytes()) == b"first"


async def test_a_database_that_was_rewritten_whole_is_found_by_the_bucket_alone(
    store: S3Store, database: Database, superuser: Engine, tmp_path: Path
) -> None:
    trail = Trail(database, tmp_path)
    await trail.act(3)
    await Sealer(database, SIGNER, [CheckpointBucket.from_url(_url(store))]).seal_all()
    tamper(
        superuser,
        "UPDATE audit_log SET verb = 'job.retry' WHERE id = 2",
        "DELETE FROM audit_leaves",
        "DELETE FROM audit_seals",
    )
    with pytest.raises(TamperedTrail, match="another checkpoint over 3 rows"):
        await Sealer(database, SIGNER, [CheckpointBucket.from_url(_url(store))]).seal_all()
    note = bytes(obstore.get(store, f"{3:020}.checkpoint").bytes()).decode()
    check = TrailCheck(SIGNER.verifier, [KeptCheckpoint("of the bucket", note)])
    async with database.transaction() as session:
        await repository.freeze(session)
        async for found in repository.read_trail(session):
            check.take(found)
    (fault,) = check.finish().faults
    assert "of the bucket" in fault.message


def test_a_put_without_a_checksum_would_be_refused_by_such_a_bucket(store: S3Store) -> None:
    plain = from_url(_url(store))
    with pytest.raises(BaseError, match="Object Lock"):
        obstore.put(plain, "x", b"x", mode="create")
