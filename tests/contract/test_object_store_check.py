"""`doctor`, `store` and a worker's start, over a bucket that works, and over many that don't."""

import base64
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.object_buckets import KMS_KEY, bucket_environment, gate_to, heads_of, unencrypted
from tests.remote_stores import Bucket, serve_bucket

from steelyard.datasets.store import BlobStore
from steelyard.runtime.manifests import write_manifest
from steelyard.server import object_store_commands
from steelyard.server.embedded.doctor import Finding, Verdict, examine
from steelyard.server.embedded.platform import compose_platform
from steelyard.server.home import HomeLayout
from steelyard.server.object_store import require_object_store
from steelyard.server.settings import Settings
from steelyard.storage.bucket_settings import BucketMisconfigured
from steelyard.storage.object_folder import ObjectFolder


@pytest.fixture(scope="module")
def bucket() -> Generator[Bucket]:
    with serve_bucket("artifacts") as served:
        yield served


def _set(monkeypatch: pytest.MonkeyPatch, endpoint: str, **settings: str | None) -> None:
    found: dict[str, str | None] = {**bucket_environment(endpoint)}
    found |= {f"STEELYARD_OBJECT_STORE_{name.upper()}": value for name, value in settings.items()}
    for name, value in found.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def _finding(home: Path) -> Finding:
    layout = HomeLayout(home)
    return next(each for each in examine(layout, Settings(home=layout.root)) if each.check == "object store")


def test_without_a_bucket_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    found = _finding(tmp_path)
    assert found.verdict is Verdict.OK
    assert str(tmp_path) in found.message
    require_object_store()


def test_a_bucket_that_works_says_how_it_encrypts_and_keeps_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, bucket.endpoint)
    found = _finding(tmp_path)
    assert (found.verdict, found.remedy) == (Verdict.OK, None)
    assert KMS_KEY in found.message
    require_object_store()
    assert heads_of(bucket) == {}


@pytest.mark.parametrize(
    ("settings", "told", "remedy"),
    [
        ({"url": "s3://nobodys-bucket/x"}, "NoSuchBucket|not found", "STEELYARD_OBJECT_STORE_URL"),
        ({"url": "https://artifacts"}, "must be s3://", "set it right"),
        ({"encryption": "rot13"}, "ENCRYPTION: Input should be", "set it right"),
    ],
)
def test_what_is_set_wrong_is_told_with_the_remedy_and_no_worker_starts(
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    told: str,
    remedy: str,
) -> None:
    _set(monkeypatch, bucket.endpoint, **settings)
    found = _finding(tmp_path)
    assert found.verdict is Verdict.FAIL
    assert remedy in (found.remedy or "")
    with pytest.raises(BucketMisconfigured, match=told):
        require_object_store()


def test_a_store_that_ignores_encryption_is_found_out(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gate_to(bucket.endpoint) as gate:
        gate.drops = "x-amz-server-side-encryption"
        _set(monkeypatch, gate.endpoint)
        found = _finding(tmp_path)
        assert found.verdict is Verdict.FAIL
        assert "was asked for aws:kms, and objects have" in found.message
        with pytest.raises(BucketMisconfigured, match="aws:kms"):
            require_object_store()
        gate.drops = "x-amz-server-side-encryption-aws-kms-key-id"
        assert "was asked for the KMS key" in _finding(tmp_path).message


def test_a_store_that_gives_out_objects_without_the_customers_key_is_found_out(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "customer.key"
    key.write_text(base64.b64encode(b"k" * 32).decode())
    key.chmod(0o600)
    _set(monkeypatch, bucket.endpoint, encryption="sse-c", kms_key_id=None, customer_key_file=str(key))
    assert "without the customer's key" in _finding(tmp_path).message


@pytest.mark.parametrize("method", ["PUT", "GET", "POST"])
def test_rights_that_are_missing_are_told(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    with gate_to(bucket.endpoint) as gate:
        gate.refuses = lambda asked, _path: 403 if asked == method else None
        _set(monkeypatch, gate.endpoint)
        found = _finding(tmp_path)
        assert found.verdict is Verdict.FAIL
        assert "rights to put, get, list and delete" in (found.remedy or "")
        with pytest.raises(BucketMisconfigured, match="rights"):
            require_object_store()


@pytest.mark.parametrize("status", [None, 503])
def test_a_store_that_is_away_is_told_and_holds_no_worker_up(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    with gate_to(bucket.endpoint) as gate:
        gate.refuses = lambda _method, _path: status
        _set(monkeypatch, gate.endpoint if status else "http://127.0.0.1:9")
        found = _finding(tmp_path)
        assert found.verdict is Verdict.FAIL
        assert "this machine may reach the store" in (found.remedy or "")
        require_object_store()


def test_a_store_that_was_local_is_brought_to_the_bucket_as_often_as_one_likes(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "objects"
    source = tmp_path / "source"
    source.write_bytes(b"rows")
    digest = BlobStore.at(root).put_file(source)
    model = root / "projects" / "p" / "jobs" / "j" / "models" / "e00001"
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"weights")
    manifest = write_manifest(model, kind="model", job_id="j", attempt_id="a", epoch=1, step=1)
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path))
    assert object_store_commands.main(["push"]) == 2
    _set(monkeypatch, bucket.endpoint)
    assert [object_store_commands.main(["push", "--json"]) for _ in range(2)] == [0, 0]
    assert unencrypted(heads_of(bucket)) == []
    shutil.rmtree(root)
    assert ObjectFolder.at(root).pull_folder(model, manifest.digest()) is None
    assert BlobStore.at(root).fetch(digest, tmp_path).read_bytes() == b"rows"
    (root / "blobs" / "sha256" / "ab").mkdir()
    (root / "blobs" / "sha256" / "ab" / ("ab" * 32)).write_bytes(b"rotten")
    capsys.readouterr()
    assert object_store_commands.main(["push", "--json"]) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert "is damaged" in fault["fault"]
    assert object_store_commands.main(["check"]) == 0
    assert KMS_KEY in capsys.readouterr().out


def test_parts_of_fetches_that_were_given_up_are_swept(tmp_path: Path) -> None:
    parts = tmp_path / ".parts"
    (parts / "folder").mkdir(parents=True)
    for name in ("old.part", "new.part"):
        (parts / name).write_bytes(b"")
    for name in ("folder", "old.part"):
        os.utime(parts / name, (0, 0))
    ObjectFolder.at(tmp_path).sweep_parts(1.0)
    assert [path.name for path in parts.iterdir()] == ["new.part"]


def test_up_says_at_once_what_is_set_wrong(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, bucket.endpoint, url="s3://nobodys-bucket/x")
    layout = HomeLayout(tmp_path)
    with pytest.raises(BucketMisconfigured, match="STEELYARD_OBJECT_STORE_URL"):
        compose_platform(layout, Settings(home=layout.root))
