"""A platform whose artifacts are in a bucket: all of them encrypted, and any folder of a node may be lost."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.datasets import seed_sums
from tests.e2e.platform import LivePlatform, wait_for_state, wait_for_step, wait_until
from tests.e2e.specs import script_spec, sums_spec
from tests.object_buckets import PREFIX, bucket_environment, heads_of, unencrypted
from tests.remote_stores import Bucket, serve_bucket

from steelyard.client import Client

NAME = "kept-sums"
SECRET = "secret-of-a-test"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class PlatformWithBucket(LivePlatform):
    """One platform, and what its operator has set."""

    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.settings}

    def lose_objects(self) -> None:
        """Take away all that this node keeps of the bucket, and the rows that were made of it."""
        shutil.rmtree(self.home / "objects")
        shutil.rmtree(self.home / "cache" / "datasets")

    def lose_node(self) -> None:
        """Take away all that another node wouldn't have: base models and tokens too."""
        shutil.rmtree(self.home / "objects")
        shutil.rmtree(self.home / "cache")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with serve_bucket("artifacts") as served:
        yield served


@pytest.fixture(scope="module")
def platform(bucket: Bucket) -> Iterator[PlatformWithBucket]:
    home = Path(tempfile.mkdtemp(prefix="steelyard-bucket-"))
    home.chmod(0o711)
    live = PlatformWithBucket(home, bucket_environment(bucket.endpoint))
    try:
        live.up()
        seed_sums(live)
        yield live
    finally:
        live.down()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def client(platform: PlatformWithBucket) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def trained(client: Client) -> str:
    """A job that was trained, measured and registered."""
    measured = {"suites": ["heldout"], "max_samples": 8}
    job = client.jobs.submit({**sums_spec(NAME, max_steps=40), "evaluation": measured})
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    return job.id


def test_every_object_is_encrypted_and_everything_works_when_the_folder_is_lost(
    platform: PlatformWithBucket, client: Client, trained: str, bucket: Bucket, tmp_path: Path
) -> None:
    heads = heads_of(bucket)
    assert unencrypted(heads) == []
    kinds = {key.removeprefix(f"{PREFIX}/").split("/")[0] for key in heads}
    assert kinds == {"blobs", "reports", "projects", "mlflow"}
    inside = {key.partition(f"/{trained}/")[2].split("/")[0] for key in heads if trained in key}
    assert inside >= {"checkpoints", "models"}
    assert {row.status for row in client.jobs.checkpoints(trained)} == {"available"}
    platform.lose_objects()
    told = platform.json("verify", f"{NAME}@1")
    assert told["verified"], told
    found = {check["subject"]: check["status"] for check in told["checks"]}
    assert {found[subject] for subject in ("files", "statement_file", "dataset", "base_model")} == {"ok"}
    exported = platform.run("data", "export", "sums@v1", "--out", str(tmp_path / "rows.jsonl"))
    assert exported.returncode == 0, exported.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 400
    for evaluation in client.evaluations.list(job=trained).data:
        assert client.evaluations.samples(evaluation.id).startswith(b"PAR1")
    assert client.evaluations.compare(trained, f"{trained}:base").metrics


def test_a_paused_training_goes_on_from_the_bucket_and_its_processes_hold_no_key(
    platform: PlatformWithBucket, client: Client, trained: str
) -> None:
    job = client.jobs.submit(sums_spec("paused-sums", max_steps=200))
    running = wait_for_step(client, job.id, 25)
    assert running.attempts[0].pid is not None
    environment = Path(f"/proc/{running.attempts[0].pid}/environ").read_bytes()
    assert SECRET.encode() not in environment
    client.jobs.pause(job.id)
    paused = wait_for_state(client, job.id, "paused", "failed")
    assert paused.state == "paused"
    newest = client.jobs.checkpoints(job.id)[0]
    assert newest.status == "available"
    platform.lose_node()
    client.jobs.resume(job.id)
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert ended.attempts[1].resumed_from_step == newest.step


def test_no_log_and_no_folder_of_an_attempt_holds_the_key(
    platform: PlatformWithBucket, client: Client, trained: str
) -> None:
    places = [*(platform.home / "logs").rglob("*"), *(platform.home / "attempts").rglob("*")]
    assert places
    assert not [path for path in places if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_script_sees_neither_bucket_nor_key(
    platform: PlatformWithBucket, client: Client, trained: str
) -> None:
    source = (
        "import json, os\n"
        "held = [n for n in os.environ if n.startswith(('AWS_', 'STEELYARD_OBJECT'))]\n"
        "held += [open('/proc/self/environ').read().count('secret-of-a-test')]\n"
        "print('HELD', json.dumps(held))\n"
    )
    job = client.jobs.submit(script_spec("curious", source))
    assert wait_for_state(client, job.id, "succeeded", "failed").state == "succeeded"
    log = wait_until(lambda: platform.run("logs", job.id).stdout, "its log")
    held = json.loads(next(line for line in log.splitlines() if "HELD" in line).partition("HELD ")[2])
    assert held == [0]


def test_a_platform_that_is_put_away_goes_on_where_nothing_of_its_node_is_left(
    platform: PlatformWithBucket, client: Client, trained: str, bucket: Bucket
) -> None:
    job = client.jobs.submit(sums_spec("moved-sums", max_steps=400))
    wait_for_step(client, job.id, 25)
    platform.down()
    saved = max(int(folder.name.removeprefix("step-")) for folder in _checkpoints(platform, job.id))
    platform.lose_node()
    shutil.rmtree(platform.home / "attempts")
    platform.up()
    ended = wait_for_state(client, job.id, "succeeded", "failed", timeout_seconds=180)
    assert ended.state == "succeeded", ended.status_message
    assert [attempt.resumed_from_step for attempt in ended.attempts] == [None, saved]
    heads = heads_of(bucket, f"{PREFIX}/projects/default/jobs/{job.id}")
    assert any(key.endswith("models/e00002/MANIFEST.json") for key in heads)
    assert unencrypted(heads) == []


def _checkpoints(platform: PlatformWithBucket, job_id: str) -> list[Path]:
    return list((platform.home / "objects").glob(f"projects/*/jobs/{job_id}/checkpoints/*/step-????????"))
