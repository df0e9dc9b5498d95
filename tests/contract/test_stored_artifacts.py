"""Data, suites and models behind a bucket: any node has them, and what is deleted leaves it."""

import base64
import shutil
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.ingests import ingest, jsonl
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.object_buckets import bucket_environment, heads_of, unencrypted
from tests.remote_stores import Bucket, serve_bucket

from steelyard.datasets.sweeping import SweepingService
from steelyard.evals.suite_folders import SuiteFolderService
from steelyard.evals.suites import texts_of
from steelyard.governance.access import ProjectId
from steelyard.kit.canonical import digest_file
from steelyard.registry.model_files import model_files
from steelyard.runtime.manifests import write_manifest
from steelyard.specs.evaluations import SuiteUpload
from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.storage.database import Database
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.tables import ModelVersionRow

_EXAMPLE = Path(__file__).parents[2] / "examples/suites/stdlib-questions"
_DEFAULT = ProjectId("default")


@pytest.fixture(scope="module")
def server() -> Generator[Bucket]:
    with serve_bucket("artifacts") as served:
        yield served


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket_environment(server.endpoint).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
async def plane(
    bucket: Bucket, database: Database, database_dsn: str, tmp_path: Path
) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


async def test_a_suite_is_in_the_bucket_and_any_node_makes_its_folder(
    plane: ControlPlane, bucket: Bucket, tmp_path: Path
) -> None:
    paths = sorted(path for path in _EXAMPLE.rglob("*") if path.is_file())
    files = [
        {
            "path": str(path.relative_to(_EXAMPLE)),
            "digest": digest_file(path),
            "content": base64.b64encode(path.read_bytes()).decode(),
        }
        for path in paths
    ]
    upload = SuiteUpload.model_validate({"name": "mine", "files": files})
    view = await plane.services.suites.add(ADMIN, "default", upload)
    assert unencrypted(heads_of(bucket)) == []
    shutil.rmtree(plane.folders.objects)
    node = tmp_path / "another-node"
    service = SuiteFolderService(plane.workers, node / "objects", node / "suites")
    (folder,) = await service.materialise(_DEFAULT, [f"mine@{view.digest}"])
    for path in paths:
        assert (Path(folder.path or "") / path.relative_to(_EXAMPLE)).read_bytes() == path.read_bytes()
    (texts,) = await texts_of(plane.database, node / "more-objects", _DEFAULT)
    assert texts.texts


def test_a_version_is_found_on_a_node_whose_folder_is_elsewhere(bucket: Bucket, tmp_path: Path) -> None:
    recorded = tmp_path / "first" / "objects" / "projects" / "p" / "jobs" / "j" / "models" / "e00001"
    recorded.mkdir(parents=True)
    (recorded / "weights").write_bytes(b"weights")
    manifest = write_manifest(recorded, kind="model", job_id="j", attempt_id="a", epoch=1, step=1)
    ObjectFolder.at(tmp_path / "first" / "objects").push_folder(recorded)
    row = ModelVersionRow(
        project_id="p",
        name="m",
        version=1,
        job_id="j",
        run_number=0,
        path=str(recorded),
        manifest_digest=manifest.digest(),
        lineage={},
        metrics={},
        created_at=datetime.now(UTC),
    )
    shutil.rmtree(tmp_path / "first")
    files = model_files(row, tmp_path / "second")
    assert files.folder == tmp_path / "second" / recorded.relative_to(tmp_path / "first" / "objects")
    assert files.check() is None
    assert not files.folder.exists()
    assert files.pull() is None
    assert (files.folder / "weights").read_bytes() == b"weights"
    files.objects.remove_files([files.folder / "weights"])
    damage = files.check()
    assert damage is not None
    assert "missing from the object store" in damage.message
    files.objects.remove_folder(files.folder)
    damage = files.check()
    assert damage is not None
    assert damage.file == MANIFEST_NAME


async def test_a_dataset_is_read_on_any_node_and_leaves_the_bucket_with_its_last_version(
    plane: ControlPlane, bucket: Bucket, tmp_path: Path
) -> None:
    before = heads_of(bucket).keys()
    rows = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(20)]
    ended = await ingest(plane, jsonl(rows))
    assert ended["state"] == "succeeded", ended
    added = {key: headers for key, headers in heads_of(bucket).items() if key not in before}
    assert {key.split("/")[2] for key in added} == {"blobs", "reports"}
    assert unencrypted(added) == []
    shutil.rmtree(plane.folders.objects)
    async with plane.http() as http:
        report = await http.get("/v1/projects/default/datasets/chats@v1/report", params={"form": "html"})
        assert (report.status_code, "question" in report.text) == (200, True)
        verified = await http.get("/v1/projects/default/datasets/chats@v1/verification", timeout=60)
        assert verified.json()["whole"]
        assert (await http.delete("/v1/projects/default/datasets/chats@v1")).status_code == 200
    sweeping = SweepingService(plane.workers, plane.folders.objects, tmp_path / "uploads", tmp_path / "work")
    assert await sweeping.sweep() > 0
    assert heads_of(bucket).keys() == before
