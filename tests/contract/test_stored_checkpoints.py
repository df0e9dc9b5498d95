"""Checkpoints and a bucket: one counts when it is whole there, and any node goes on from it."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.e2e.specs import script_spec
from tests.object_buckets import bucket_environment, gate_to, heads_of, unencrypted
from tests.remote_stores import Bucket, serve_bucket

from steelyard.jobs import storing
from steelyard.jobs.checkpoint_sweeping import CheckpointSweepingService
from steelyard.jobs.finished_models import keep_model
from steelyard.jobs.storing import StoringService
from steelyard.runtime.manifests import total_size, verify_manifest, write_manifest
from steelyard.server.home import HomeLayout
from steelyard.server.object_store import bring_last_checkpoints
from steelyard.specs.manifest import MANIFEST_NAME, Manifest
from steelyard.specs.outcome import Outcome, OutcomeKind
from steelyard.specs.run import RUN_NAME
from steelyard.specs.states import Reason
from steelyard.specs.views import EventView
from steelyard.storage import bucket as bucket_module
from steelyard.storage.bucket import BucketUnavailable
from steelyard.storage.database import Database

_SPEC = json.dumps(
    script_spec("stored", "pass", checkpoint={"save_steps": 5, "save_total_limit": 2})
).encode()


@pytest.fixture(scope="module")
def server() -> Generator[Bucket]:
    with serve_bucket("artifacts") as served:
        yield served


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    _point_to(monkeypatch, server.endpoint)
    found = bucket_module.bucket_of_environment()
    assert found is not None
    found.remove(found.keys(""))
    return server


@pytest.fixture
async def plane(
    bucket: Bucket, database: Database, database_dsn: str, tmp_path: Path
) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


@pytest.fixture
def storing_service(plane: ControlPlane) -> StoringService:
    return StoringService(plane.workers, plane.folders)


def _point_to(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in bucket_environment(endpoint).items():
        monkeypatch.setenv(name, value)


async def test_a_checkpoint_counts_once_it_is_in_the_bucket_and_an_empty_node_goes_on_from_it(
    plane: ControlPlane, storing_service: StoringService, bucket: Bucket
) -> None:
    job_id, attempt_id = await _start(plane)
    await _save(plane, job_id, attempt_id, 5)
    assert await _statuses(plane, job_id) == {5: "uploading"}
    async with storing_service.keeping_up(attempt_id) as finish:
        await _until(lambda: _are(plane, job_id, {5: "available"}))
        await _save(plane, job_id, attempt_id, 10)
        await finish(None)
    assert await _statuses(plane, job_id) == {5: "available", 10: "available"}
    heads = heads_of(bucket)
    assert len([key for key in heads if key.endswith(MANIFEST_NAME)]) == 2
    assert unencrypted(heads) == []
    events = await _events(plane, job_id)
    assert [event.data["step"] for event in events if event.type == "checkpoint.published"] == [5, 10]
    shutil.rmtree(plane.folders.objects)
    launch = await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert launch.attempt_id is not None
    spec = await plane.launching.launch_spec(launch.attempt_id)
    assert spec.run.resume_from is not None
    assert spec.run.resume_from.endswith("step-00000010")
    assert verify_manifest(Path(spec.run.resume_from)) is None


async def test_superseded_checkpoints_leave_the_bucket_and_damaged_ones_are_passed_over(
    plane: ControlPlane, storing_service: StoringService, bucket: Bucket
) -> None:
    job_id, attempt_id = await _start(plane)
    for step in (5, 10, 15):
        await _save(plane, job_id, attempt_id, step)
        async with storing_service.keeping_up(attempt_id) as finish:
            await finish(None)
    assert await _statuses(plane, job_id) == {5: "deleted", 10: "available", 15: "available"}
    sweeping = CheckpointSweepingService(plane.workers, plane.folders)
    assert [await sweeping.sweep(), await sweeping.sweep()] == [1, 0]
    assert await _statuses(plane, job_id) == {5: "deleted", 10: "available", 15: "available"}
    heads = heads_of(bucket)
    assert {key.split("/")[-2] for key in heads} == {"step-00000010", "step-00000015"}
    damaged = next(key for key in heads if key.endswith("step-00000015/state"))
    found = bucket_module.bucket_of_environment()
    assert found is not None
    found.put_bytes(damaged.removeprefix("steelyard/prod/"), b"rotten")
    shutil.rmtree(plane.folders.objects)
    launch = await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert launch.attempt_id is not None
    spec = await plane.launching.launch_spec(launch.attempt_id)
    assert (spec.run.resume_from or "").endswith("step-00000010")
    assert (await _statuses(plane, job_id))[15] == "damaged"


async def test_a_bucket_that_is_away_is_told_once_and_nothing_is_lost(
    plane: ControlPlane,
    storing_service: StoringService,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_module, "_RETRIES", {"max_retries": 0})
    monkeypatch.setattr(storing, "_LOOK_SECONDS", 0.05)
    job_id, attempt_id = await _start(plane)
    await _save(plane, job_id, attempt_id, 5)
    _point_to(monkeypatch, "http://127.0.0.1:9")
    async with storing_service.keeping_up(attempt_id) as finish:
        await _until(lambda: _shows(plane, job_id, Reason.OBJECT_STORE_UNAVAILABLE))
        with pytest.raises(BucketUnavailable):
            await finish(None)
    events = await _events(plane, job_id)
    assert len([event for event in events if event.type == "object_store.unavailable"]) == 1
    _point_to(monkeypatch, bucket.endpoint)
    async with storing_service.keeping_up(attempt_id) as finish:
        await finish(None)
    assert await _statuses(plane, job_id) == {5: "available"}
    assert not await _shows(plane, job_id, Reason.OBJECT_STORE_UNAVAILABLE)
    shutil.rmtree(plane.folders.objects)
    _point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(BucketUnavailable) as caught:
        await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert (caught.value.code, caught.value.retryable) == ("object_store_unavailable", True)
    assert "127.0.0.1" not in caught.value.message
    assert await _statuses(plane, job_id) == {5: "available"}
    assert await _shows(plane, job_id, Reason.OBJECT_STORE_UNAVAILABLE)


async def test_a_folder_that_its_trainer_deletes_meanwhile_gets_there_all_the_same(
    plane: ControlPlane, storing_service: StoringService, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt_id = await _start(plane)
    folder, _ = await _save(plane, job_id, attempt_id, 5)
    with gate_to(bucket.endpoint) as gate:
        gate.holds = lambda method, path: (
            method == "PUT" and path.endswith("/state") and not gate.opened.is_set()
        )
        gate.lets_on = True
        _point_to(monkeypatch, gate.endpoint)
        async with storing_service.keeping_up(attempt_id) as finish:
            assert await asyncio.to_thread(gate.held.wait, 30)
            shutil.rmtree(folder)
            gate.opened.set()
            await _until(lambda: _are(plane, job_id, {5: "available"}))
            await finish(None)
    assert len(heads_of(bucket)) == 2


async def test_what_an_old_attempt_brings_counts_no_more(
    plane: ControlPlane, storing_service: StoringService
) -> None:
    job_id, attempt_id = await _start(plane)
    await _save(plane, job_id, attempt_id, 5)
    second = await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert second.attempt_id is not None
    async with storing_service.keeping_up(attempt_id) as finish:
        await finish(None)
    assert await _statuses(plane, job_id) == {5: "deleted"}


async def test_a_checkpoint_or_model_with_a_link_in_it_is_told_and_never_counts(
    plane: ControlPlane, storing_service: StoringService, bucket: Bucket, tmp_path: Path
) -> None:
    job_id, attempt_id = await _start(plane)
    folder, _ = await _save(plane, job_id, attempt_id, 5)
    model = plane.folders.job("default", job_id) / "models" / "e00001"
    _write(model, job_id, "model")
    for place in (folder, model):
        (place / "state").rename(tmp_path / f"state-of-{place.name}")
        (place / "state").symlink_to(tmp_path / f"state-of-{place.name}")
    async with storing_service.keeping_up(attempt_id) as finish:
        await finish(None)
    assert await _statuses(plane, job_id) == {5: "deleted"}
    told = [event.message for event in await _events(plane, job_id) if event.type == "checkpoint.damaged"]
    assert len(told) == 1
    assert "state is a link" in told[0]
    damage = await keep_model(plane.folders, model)
    assert damage is not None
    assert "state is a link" in damage.message
    assert heads_of(bucket) == {}


async def test_a_finished_model_is_there_before_its_attempt_has_ended(
    plane: ControlPlane, storing_service: StoringService, bucket: Bucket
) -> None:
    job_id, attempt_id = await _start(plane)
    folder = plane.folders.job("default", job_id) / "models" / "e00001"
    _write(folder, job_id, "model")
    done = Outcome(
        kind=OutcomeKind.SUCCEEDED,
        exit_code=0,
        reason=Reason.COMPLETED,
        message="",
        model_dir="models/e00001",
    )
    async with storing_service.keeping_up(attempt_id) as finish:
        await finish(done)
        await finish(done.model_copy(update={"model_dir": "../../../../../secrets"}))
    heads = heads_of(bucket)
    assert {key.rpartition("/models/")[2] for key in heads} == {"e00001/state", f"e00001/{MANIFEST_NAME}"}
    assert unencrypted(heads) == []


async def test_killed_between_manifest_and_publication_the_next_watcher_publishes(
    plane: ControlPlane,
    storing_service: StoringService,
    bucket: Bucket,
    database_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id, attempt_id = await _start(plane)
    await _save(plane, job_id, attempt_id, 5)
    async with plane.database.transaction() as session:
        await session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.killed_uploads", database_dsn, str(tmp_path), attempt_id),
            env={**os.environ, **bucket_environment(bucket.endpoint)},
        )
        await _until(lambda: _waits_for_the_job(plane))
        assert any(key.endswith(MANIFEST_NAME) for key in heads_of(bucket))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert await _statuses(plane, job_id) == {5: "uploading"}
    with gate_to(bucket.endpoint) as gate:
        _point_to(monkeypatch, gate.endpoint)
        async with storing_service.keeping_up(attempt_id) as finish:
            await finish(None)
        assert gate.puts() == []
    assert await _statuses(plane, job_id) == {5: "available"}


async def test_what_a_node_brought_before_it_was_put_away_with_its_disk_is_published_by_another(
    plane: ControlPlane, storing_service: StoringService, tmp_path: Path
) -> None:
    job_id, attempt_id = await _start(plane)
    await _save(plane, job_id, attempt_id, 5)
    await _save(plane, job_id, attempt_id, 10)
    run = (await plane.launching.launch_spec(attempt_id)).run
    layout = HomeLayout(tmp_path)
    (layout.attempts / attempt_id).mkdir(parents=True)
    (layout.attempts / attempt_id / RUN_NAME).write_text(run.model_dump_json())
    assert bring_last_checkpoints(layout, [attempt_id, "att_of-nobody"]) == 1
    shutil.rmtree(plane.folders.objects)
    async with storing_service.keeping_up(attempt_id) as finish:
        await finish(None)
    assert await _statuses(plane, job_id) == {5: "deleted", 10: "available"}
    launch = await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert launch.attempt_id is not None
    spec = await plane.launching.launch_spec(launch.attempt_id)
    assert (spec.run.resume_from or "").endswith("step-00000010")


async def _start(plane: ControlPlane) -> tuple[str, str]:
    job_id = (await plane.services.submission.submit(ADMIN, "default", _SPEC, None)).job_id
    await plane.admit(job_id)
    launch = await plane.lifecycle.start_attempt(job_id, 0, "0:1", "train")
    assert launch.attempt_id is not None
    return job_id, launch.attempt_id


def _write(folder: Path, job_id: str, kind: str) -> Manifest:
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(folder.name.encode())
    return write_manifest(folder, kind=kind, job_id=job_id, attempt_id="a", epoch=1, step=1)  # pyright: ignore[reportArgumentType]


async def _save(plane: ControlPlane, job_id: str, attempt_id: str, step: int) -> tuple[Path, Manifest]:
    """Write a checkpoint and publish it, as a trainer does."""
    job_dir = plane.folders.job("default", job_id)
    folder = job_dir / "checkpoints" / "e00001" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state").write_text(str(step))
    manifest = write_manifest(
        folder, kind="checkpoint", job_id=job_id, attempt_id=attempt_id, epoch=1, step=step
    )
    token = (await plane.launching.launch_spec(attempt_id)).token
    async with httpx.AsyncClient(base_url=plane.url, headers={"Authorization": f"Bearer {token}"}) as http:
        report = {
            "epoch": 1,
            "step": step,
            "path": str(folder.relative_to(job_dir)),
            "manifest_digest": manifest.digest(),
            "size_bytes": total_size(manifest),
        }
        answer = await http.post(f"/v1/attempts/{attempt_id}/checkpoints", json=report)
    assert answer.status_code == 200, answer.text
    return folder, manifest


async def _statuses(plane: ControlPlane, job_id: str) -> dict[int, str]:
    rows = await plane.services.queries.checkpoints(ADMIN, "default", job_id)
    return {row.step: row.status for row in rows}


async def _events(plane: ControlPlane, job_id: str) -> list[EventView]:
    page, _ = await plane.services.queries.events(ADMIN, "default", job_id, None, 100)
    return page.data


async def _are(plane: ControlPlane, job_id: str, wanted: dict[int, str]) -> bool:
    return await _statuses(plane, job_id) == wanted


async def _shows(plane: ControlPlane, job_id: str, reason: Reason) -> bool:
    return (await plane.services.queries.get(ADMIN, "default", job_id)).status_reason == reason


async def _waits_for_the_job(plane: ControlPlane) -> bool:
    async with plane.database.transaction() as session:
        query = text(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%killed-upload%'"
            " AND wait_event_type = 'Lock'"
        )
        return bool(await session.scalar(query))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)
