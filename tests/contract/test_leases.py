"""Two writers never: an attempt that wakes after its successor has started can write nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.control_plane import ADMIN, ControlPlane, serve
from tests.e2e.specs import script_spec

from steelyard.compute.executor import LaunchSpec
from steelyard.kit.errors import StaleLease
from steelyard.specs.outcome import OUTCOME_NAME, ExitCode, Outcome
from steelyard.specs.reports import AttemptReport
from steelyard.specs.run import RUN_NAME, TOKEN_NAME
from steelyard.specs.states import Reason
from steelyard.storage.database import Database

ENDLESS = """
import time
from steelyard import runtime

context = runtime.init()
step = 0
while True:
    step += 1
    time.sleep(0.02)
    context.report(step=step, total_steps=100000, loss=1.0)
    if context.leave_after(step, lambda folder: (folder / "state").write_text(str(step))):
        break
"""


@pytest.fixture
async def plane(database: Database, database_dsn: str, tmp_path: Path) -> AsyncGenerator[ControlPlane]:
    async with serve(database, database_dsn, tmp_path) as plane:
        yield plane


async def test_a_sleeper_that_wakes_after_its_successor_started_publishes_nothing(
    plane: ControlPlane,
) -> None:
    job_id, first = await _start(plane, ENDLESS)
    process = _launch(first)
    await _until(lambda: _has_checkpoints(plane, job_id, 2), "two checkpoints")
    os.kill(process.pid, signal.SIGSTOP)

    second = await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    assert second.attempt_id is not None
    before = await _facts(plane, job_id)
    os.kill(process.pid, signal.SIGCONT)
    code = await asyncio.to_thread(process.wait, 30)

    outcome = Outcome.model_validate_json((Path(first.run.attempt_dir) / OUTCOME_NAME).read_bytes())
    assert (code, outcome.reason) == (ExitCode.TRANSIENT, Reason.LEASE_LOST)
    after = await _facts(plane, job_id)
    assert after["checkpoints"] == before["checkpoints"]
    assert after["attempts"][0]["last_step"] == before["attempts"][0]["last_step"]
    assert after["attempts"][0]["state"] == before["attempts"][0]["state"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("report", {"phase": "training", "step": 99}),
        (
            "checkpoints",
            {
                "step": 99,
                "path": "checkpoints/e00001/step-00000099",
                "manifest_digest": "sha256:0",
                "size_bytes": 1,
            },
        ),
        (
            "result",
            {"outcome": {"kind": "succeeded", "exit_code": 0, "reason": "completed", "message": "done"}},
        ),
        ("events", {"type": "note", "message": "I am still here"}),
    ],
)
async def test_every_write_of_an_old_epoch_is_refused(
    plane: ControlPlane, path: str, body: dict[str, Any]
) -> None:
    job_id, first = await _start(plane, "pass")
    async with _as_attempt(plane, first) as http:
        answer = await http.post(f"/v1/attempts/{first.run.attempt_id}/{path}", json={"epoch": 1, **body})
        assert answer.status_code in (200, 204)
        await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")

        answer = await http.post(f"/v1/attempts/{first.run.attempt_id}/{path}", json={"epoch": 1, **body})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "stale_lease"


async def test_a_claimed_epoch_that_is_not_one_s_own_is_refused(plane: ControlPlane) -> None:
    job_id, first = await _start(plane, "pass")
    await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    async with _as_attempt(plane, first) as http:
        answer = await http.post(
            f"/v1/attempts/{first.run.attempt_id}/report", json={"epoch": 2, "phase": "training", "step": 5}
        )
    assert answer.status_code == 409


async def test_metrics_for_mlflow_need_the_lease(plane: ControlPlane) -> None:
    job_id, first = await _start(plane, "pass")
    await plane.lifecycle.start_attempt(job_id, 0, "0:2", "train")
    async with _as_attempt(plane, first) as http:
        answer = await http.post("/mlflow/api/2.0/mlflow/runs/log-batch", json={"run_id": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale_lease")


async def test_a_token_reaches_its_own_attempt_alone(plane: ControlPlane) -> None:
    _, first = await _start(plane, "pass")
    _, other = await _start(plane, "pass")
    report = {"epoch": 1, "phase": "training", "step": 5}
    async with _as_attempt(plane, first) as http:
        foreign = await http.post(f"/v1/attempts/{other.run.attempt_id}/report", json=report)
        jobs = await http.get("/v1/projects/default/jobs")
        models = await http.get("/mlflow/api/2.0/mlflow/registered-models/search")
    assert {foreign.status_code, jobs.status_code, models.status_code} == {404}


async def test_a_forged_token_is_not_known(plane: ControlPlane) -> None:
    _, first = await _start(plane, "pass")
    forged = first.token[:-1] + ("A" if first.token[-1] != "A" else "B")
    async with httpx.AsyncClient(base_url=plane.url, headers={"Authorization": f"Bearer {forged}"}) as http:
        answer = await http.post(
            f"/v1/attempts/{first.run.attempt_id}/report", json={"epoch": 1, "phase": "training"}
        )
    assert answer.status_code == 401


async def test_an_ended_attempt_has_no_lease(plane: ControlPlane) -> None:
    _, first = await _start(plane, "pass")
    with pytest.raises(StaleLease):
        await plane.services.reports.report(
            _actor(first), first.run.attempt_id, AttemptReport(epoch=7, phase="training")
        )


async def _start(plane: ControlPlane, source: str) -> tuple[str, LaunchSpec]:
    """Submit a job and make its first attempt."""
    body = json.dumps(script_spec("leases", source, checkpoint={"save_steps": 5})).encode()
    job_id = (await plane.services.submission.submit(ADMIN, "default", body, None)).job_id
    await plane.admit(job_id)
    launch = await plane.lifecycle.start_attempt(job_id, 0, "0:1", "train")
    assert launch.attempt_id is not None
    return job_id, await plane.launching.launch_spec(launch.attempt_id)


def _launch(spec: LaunchSpec) -> subprocess.Popen[bytes]:
    """Run a trainer by hand, as an executor on a node that can't be reached would."""
    folder = Path(spec.run.attempt_dir)
    folder.mkdir(parents=True)
    (folder / RUN_NAME).write_text(spec.run.model_dump_json())
    (folder / TOKEN_NAME).write_text(spec.token)
    return subprocess.Popen([sys.executable, "-m", spec.module, str(folder / RUN_NAME)], cwd=folder)


def _as_attempt(plane: ControlPlane, spec: LaunchSpec) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=plane.url, headers={"Authorization": f"Bearer {spec.token}"})


def _actor(spec: LaunchSpec) -> Any:
    return type(ADMIN)(kind="attempt", id=spec.run.attempt_id, attempt_id=spec.run.attempt_id)


async def _facts(plane: ControlPlane, job_id: str) -> dict[str, Any]:
    view = await plane.services.queries.get(ADMIN, "default", job_id)
    rows = await plane.services.queries.checkpoints(ADMIN, "default", job_id)
    return {
        "attempts": [attempt.model_dump() for attempt in view.attempts],
        "checkpoints": [row.path for row in rows],
    }


async def _has_checkpoints(plane: ControlPlane, job_id: str, count: int) -> bool:
    return len((await _facts(plane, job_id))["checkpoints"]) >= count


async def _until(condition: Callable[[], Awaitable[bool]], what: str, timeout_seconds: float = 60.0) -> None:
    async with asyncio.timeout(timeout_seconds):
        while not await condition():
            await asyncio.sleep(0.05)
    assert what
