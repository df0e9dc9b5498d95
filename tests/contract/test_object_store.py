"""A real S3 server as the truth, and a folder as its cache: what is written, encrypted, fetched, refused."""

import base64
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.object_buckets import PREFIX, bucket_environment, gate_to, heads_of, unencrypted
from tests.remote_stores import Bucket, serve_bucket
from tests.unit.datasets.files import PLAIN, ingest, sorted_rows, write_jsonl

from steelyard.datasets.examination import ExaminationService
from steelyard.datasets.export import head
from steelyard.datasets.inspection import verify_version
from steelyard.datasets.store import BlobStore, key_of
from steelyard.kit.canonical import digest_bytes
from steelyard.kit.errors import NotFound, StorageFull
from steelyard.runtime.manifests import write_manifest
from steelyard.specs.manifest import MANIFEST_NAME, Manifest, ManifestFile
from steelyard.storage import bucket as bucket_module
from steelyard.storage.bucket import BucketUnavailable, DamagedFile
from steelyard.storage.bucket_settings import BucketMisconfigured, BucketSettings
from steelyard.storage.object_folder import ObjectFolder

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(40)]
_LARGE_BYTES = (20 << 20) + 3


@pytest.fixture(scope="module")
def server() -> Generator[Bucket]:
    with serve_bucket("artifacts") as served:
        yield served


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket, empty, and the environment of an operator who has switched it on."""
    store = _open(server, monkeypatch)
    store.remove(store.keys(""))
    return server


def _open(server: Bucket, monkeypatch: pytest.MonkeyPatch, endpoint: str = "") -> bucket_module.Bucket:
    for name, value in bucket_environment(endpoint or server.endpoint).items():
        monkeypatch.setenv(name, value)
    found = bucket_module.bucket_of_environment()
    assert found is not None
    return found


def _checkpoint(root: Path, *, large: bool = False) -> tuple[Path, Manifest]:
    folder = root / "projects" / "p" / "jobs" / "j" / "checkpoints" / "e00001" / "step-00000010"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(os.urandom(_LARGE_BYTES if large else 1000))
    (folder / "deep" / "state.json").write_bytes(b"{}")
    manifest = write_manifest(folder, kind="checkpoint", job_id="j", attempt_id="a", epoch=1, step=10)
    return folder, manifest


def test_a_dataset_is_in_the_bucket_under_the_key_and_comes_back_when_the_folder_is_gone(
    bucket: Bucket, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    published = ingest(store, write_jsonl(tmp_path / "rows.jsonl", _ROWS), spec=PLAIN)
    heads = heads_of(bucket)
    assert {f"{PREFIX}/{key_of(shard.digest)}" for shard in published.manifest.shards} <= heads.keys()
    assert len([key for key in heads if key.startswith(f"{PREFIX}/reports/")]) == 2
    assert unencrypted(heads) == []
    shutil.rmtree(store)
    assert sorted_rows(head(published.manifest, 100, store_root=store)) == sorted_rows(_ROWS)
    assert verify_version(published.manifest, store_root=store) == []
    assert BlobStore.at(store).fetch_page(f"reports/{published.manifest.digest[7:]}.json")


def test_damage_here_is_healed_and_damage_there_is_told(bucket: Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"sound")
    blobs = BlobStore.at(tmp_path / "store")
    digest = blobs.put_file(source)
    local = tmp_path / "store" / key_of(digest)
    local.write_bytes(b"rotten")
    assert blobs.fetch(digest, tmp_path).read_bytes() == b"sound"
    local.write_bytes(b"rotten")
    assert blobs.verify(digest) is None
    bucket_of_test = ObjectFolder.at(tmp_path / "store").bucket
    assert bucket_of_test is not None
    bucket_of_test.put_bytes(key_of(digest), b"changed")
    told = blobs.verify(digest)
    assert told is not None
    assert "damaged" in told
    local.unlink()
    with pytest.raises(DamagedFile, match="damaged"):
        blobs.fetch(digest, tmp_path)
    assert not local.exists()
    blobs.remove([key_of(digest)])
    with pytest.raises(NotFound, match="missing"):
        blobs.fetch(digest, tmp_path)
    assert not list((tmp_path / "store" / ".parts").iterdir())


def test_a_folder_is_whole_there_with_its_manifest_and_comes_back_verified(
    bucket: Bucket, tmp_path: Path
) -> None:
    folder, manifest = _checkpoint(tmp_path, large=True)
    objects = ObjectFolder.at(tmp_path)
    objects.push_folder(folder)
    heads = heads_of(bucket)
    assert len(heads) == 3
    assert unencrypted(heads) == []
    (large,) = [headers for key, headers in heads.items() if key.endswith("weights.safetensors")]
    assert int(large["content-length"]) == _LARGE_BYTES
    shutil.rmtree(tmp_path / "projects")
    assert objects.pull_folder(folder, manifest.digest()) is None
    (folder / "deep" / "state.json").write_bytes(b"[]")
    (folder / "extra").write_bytes(b"")
    assert objects.pull_folder(folder, manifest.digest()) is None
    assert not (folder / "extra").exists()
    shutil.rmtree(tmp_path / "projects")
    damage = objects.pull_folder(folder, "sha256:another")
    assert damage is not None
    assert "not the one that was published" in damage.message
    objects.remove_folder(folder)
    assert heads_of(bucket) == {}


def test_what_was_written_under_another_encryption_is_written_anew(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"rows")
    for name, value in bucket_environment(bucket.endpoint, encryption="AES256").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STEELYARD_OBJECT_STORE_KMS_KEY_ID")
    BlobStore.at(tmp_path / "store").put_file(source)
    (plain,) = heads_of(bucket).values()
    assert plain["x-amz-server-side-encryption"] == "AES256"
    _open(bucket, monkeypatch)
    BlobStore.at(tmp_path / "store").put_file(source)
    assert unencrypted(heads_of(bucket)) == []


def test_a_customers_key_goes_with_every_request(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "customer.key"
    key.write_text(base64.b64encode(b"k" * 32).decode())
    key.chmod(0o600)
    with gate_to(bucket.endpoint) as gate:
        for name, value in bucket_environment(gate.endpoint, encryption="sse-c").items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("STEELYARD_OBJECT_STORE_KMS_KEY_ID")
        monkeypatch.setenv("STEELYARD_OBJECT_STORE_CUSTOMER_KEY_FILE", str(key))
        folder, manifest = _checkpoint(tmp_path, large=True)
        objects = ObjectFolder.at(tmp_path)
        objects.push_folder(folder)
        shutil.rmtree(tmp_path / "projects")
        assert objects.pull_folder(folder, manifest.digest()) is None
        asked = [headers for path, headers in gate.headers.items() if "/projects/" in path]
    lower = [{name.lower(): value for name, value in headers.items()} for headers in asked]
    assert lower
    assert {each.get("x-amz-server-side-encryption-customer-algorithm") for each in lower} == {"AES256"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "s3://artifacts/x", "kms_key_id": "k"}, "KMS_KEY_ID needs"),
        ({"url": "gs://artifacts/x"}, "must be s3://"),
        ({"url": "s3://artifacts", "encryption": "sse-c"}, "go together"),
        ({"url": "s3://artifacts", "encryption": "rot13"}, "AES256"),
    ],
)
def test_settings_that_cant_be_right_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [("c2hvcnQ=", 0o600, "not 32"), ("%", 0o600, "isn't base64"), ("", 0o644, "open to other users")],
)
def test_a_customers_key_that_cant_be_used_is_told(
    tmp_path: Path, text: str, mode: int, message: str
) -> None:
    key = tmp_path / "customer.key"
    key.write_text(text)
    key.chmod(mode)
    settings = BucketSettings.model_validate(
        {"url": "s3://artifacts/x", "encryption": "sse-c", "customer_key_file": key}
    )
    with pytest.raises(BucketMisconfigured, match=message):
        settings.headers()


def test_a_file_that_isnt_what_its_manifest_says_never_makes_a_whole_folder(
    bucket: Bucket, tmp_path: Path
) -> None:
    folder, _ = _checkpoint(tmp_path, large=True)
    with (folder / "weights.safetensors").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(DamagedFile, match="damaged"):
        ObjectFolder.at(tmp_path).push_folder(folder)
    assert not [key for key in heads_of(bucket) if key.endswith(("weights.safetensors", MANIFEST_NAME))]


@pytest.mark.parametrize("way", ["a link", "a linked folder", "a forged name", "a pipe", "no name of a key"])
def test_nothing_outside_of_a_folder_is_read_whatever_its_writer_puts_in(
    bucket: Bucket, tmp_path: Path, way: str
) -> None:
    folder, manifest = _checkpoint(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "stolen").write_bytes(b"secret")
    name = "stolen"
    if way == "a link":
        (folder / name).symlink_to(outside / "stolen")
    elif way == "a linked folder":
        (folder / "in").symlink_to(outside)
        name = "in/stolen"
    elif way == "a forged name":
        name = os.path.relpath(outside / "stolen", folder)
    elif way == "a pipe":
        os.mkfifo(folder / name)
    else:
        name = "line\nfeed/stolen"
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"secret")
    file = ManifestFile(size=6, digest=digest_bytes(b"secret"))
    forged = manifest.model_copy(update={"files": {name: file, **manifest.files}})
    (folder / MANIFEST_NAME).write_text(forged.model_dump_json())
    with pytest.raises((OSError, DamagedFile)):
        ObjectFolder.at(tmp_path).push_folder(folder)
    assert not [key for key in heads_of(bucket) if key.endswith(("stolen", MANIFEST_NAME))]


def test_a_folder_that_is_written_anew_leaves_nothing_of_the_old_one(bucket: Bucket, tmp_path: Path) -> None:
    folder, _ = _checkpoint(tmp_path)
    objects = ObjectFolder.at(tmp_path)
    objects.push_folder(folder)
    shutil.rmtree(folder / "deep")
    (folder / "weights.safetensors").write_bytes(b"new")
    manifest = write_manifest(folder, kind="checkpoint", job_id="j", attempt_id="a", epoch=1, step=10)
    objects.push_folder(folder)
    assert len(heads_of(bucket)) == 2
    assert objects.check_folder(folder, manifest.digest()) is None


def test_names_of_all_kinds_come_back_and_go_away(bucket: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "p" / "jobs" / "j" / "models" / "e00001"
    names = [
        "with space",
        "a#b%20c",
        "plus+tilde~",
        "prüfung/größe.json",
        "q?x=1&y",
        "[0].bin",
        "back\\slash",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    manifest = write_manifest(folder, kind="model", job_id="j", attempt_id="a", epoch=1, step=1)
    objects = ObjectFolder.at(tmp_path)
    objects.push_folder(folder)
    assert objects.check_folder(folder, manifest.digest()) is None
    shutil.rmtree(folder)
    assert objects.pull_folder(folder, manifest.digest()) is None
    assert sorted(manifest.files) == sorted(names)
    objects.remove_folder(folder)
    assert heads_of(bucket) == {}


def test_a_store_that_is_away_or_a_bucket_that_isnt_there_is_worth_another_try(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"rows")
    folder, manifest = _checkpoint(tmp_path / "store")
    shutil.rmtree(folder)
    monkeypatch.setenv("STEELYARD_OBJECT_STORE_URL", "s3://nobodys-bucket/x")
    for act in (
        lambda: BlobStore.at(tmp_path / "store").put_file(source),
        lambda: ObjectFolder.at(tmp_path / "store").pull_folder(folder, manifest.digest()),
    ):
        with pytest.raises(BucketUnavailable, match="no such bucket") as caught:
            act()
        assert caught.value.retryable
    monkeypatch.setattr(bucket_module, "_RETRIES", {"max_retries": 0})
    _open(bucket, monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(BucketUnavailable, match="tried again"):
        BlobStore.at(tmp_path / "store").put_file(source)


def test_a_full_disk_is_told_and_leaves_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = _checkpoint(tmp_path)
    objects = ObjectFolder.at(tmp_path)
    objects.push_folder(folder)
    shutil.rmtree(tmp_path / "projects")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="free some room"):
        objects.pull_folder(folder, manifest.digest())
    monkeypatch.undo()
    assert not folder.exists()
    assert [path for path in (tmp_path / ".parts").iterdir() if path.suffix != ".lock"] == []


_PULL = """
import sys
from pathlib import Path
from steelyard.storage.object_folder import ObjectFolder
print(ObjectFolder.at(Path(sys.argv[1])).pull_folder(Path(sys.argv[2]), sys.argv[3]))
"""
_PUSH = """
import sys
from pathlib import Path
from steelyard.storage.object_folder import ObjectFolder
ObjectFolder.at(Path(sys.argv[1])).push_folder(Path(sys.argv[2]))
"""


_PUT_AND_GET = """
import sys
from pathlib import Path
from steelyard.kit.canonical import digest_file
from steelyard.storage.bucket import bucket_of_environment

def peak_mib():
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) // 1024

bucket, path = bucket_of_environment(), Path(sys.argv[1])
digest = digest_file(path)
bucket.put_bytes("small", b"small")
before = peak_mib()
bucket.put_file("large", path.parent, path.name, digest)
bucket.fetch_file("large", path.with_name("back"), digest, path.with_name("parts"))
print(peak_mib() - before)
"""


def _start(code: str, *arguments: str, endpoint: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **bucket_environment(endpoint)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("held", ["weights.safetensors", MANIFEST_NAME])
def test_killed_in_an_upload_the_folder_isnt_whole_there_and_the_next_try_goes_on(
    bucket: Bucket, tmp_path: Path, held: str
) -> None:
    folder, manifest = _checkpoint(tmp_path)
    with gate_to(bucket.endpoint) as gate:
        gate.holds = lambda method, path: method == "PUT" and path.endswith(held)
        process = _start(_PUSH, str(tmp_path), str(folder), endpoint=gate.endpoint)
        assert gate.held.wait(30)
        _kill(process)
    there = {key.rpartition("/")[2] for key in heads_of(bucket)}
    assert there == ({"state.json"} if held != MANIFEST_NAME else {"state.json", "weights.safetensors"})
    other = ObjectFolder.at(tmp_path / "other")
    elsewhere = tmp_path / "other" / folder.relative_to(tmp_path)
    assert other.pull_folder(elsewhere, manifest.digest()) is not None
    with gate_to(bucket.endpoint) as gate:
        process = _start(_PUSH, str(tmp_path), str(folder), endpoint=gate.endpoint)
        process.communicate(timeout=30)
        assert process.returncode == 0
        written = {path.rpartition("/")[2] for path in gate.puts()}
    assert written == {"weights.safetensors", "state.json", MANIFEST_NAME} - there
    assert other.pull_folder(elsewhere, manifest.digest()) is None
    assert unencrypted(heads_of(bucket)) == []


def test_killed_in_a_download_nothing_is_in_place_and_two_at_once_get_one_whole_folder(
    bucket: Bucket, tmp_path: Path
) -> None:
    folder, manifest = _checkpoint(tmp_path)
    ObjectFolder.at(tmp_path).push_folder(folder)
    shutil.rmtree(tmp_path / "projects")
    arguments = (str(tmp_path), str(folder), manifest.digest())
    with gate_to(bucket.endpoint) as gate:
        gate.holds = lambda method, path: method == "GET" and path.endswith("weights.safetensors")
        process = _start(_PULL, *arguments, endpoint=gate.endpoint)
        assert gate.held.wait(30)
        _kill(process)
    assert not folder.exists()
    both = [_start(_PULL, *arguments, endpoint=bucket.endpoint) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["None", "None"]


def test_a_large_file_goes_and_comes_in_bounded_memory(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(96 << 20)
    process = _start(_PUT_AND_GET, str(path), endpoint=bucket.endpoint)
    grown_mib = int(process.communicate(timeout=120)[0])
    assert process.returncode == 0
    assert grown_mib < 80
    assert path.with_name("back").stat().st_size == 96 << 20


def test_the_report_comes_from_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    store = tmp_path / "store"
    published = ingest(store, write_jsonl(tmp_path / "rows.jsonl", _ROWS), spec=PLAIN)
    shutil.rmtree(store)

    class Version:
        digest = published.manifest.digest
        ref = published.ref

    path = ExaminationService(store).report(Version(), "html")  # pyright: ignore[reportArgumentType]
    assert "question" in path.read_text()
