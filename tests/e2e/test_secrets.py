"""No secret is in a log, a command line, a workflow's history or MLflow; every act is in the audit trail."""

import json
import stat
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_for_step
from tests.e2e.specs import sums_spec

from steelyard.client import Client
from steelyard.server.home import database_dsn, read_platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def secrets(platform: LivePlatform) -> list[str]:
    """Every secret of the platform, as text."""
    files = [path for path in (platform.home / "secrets").iterdir() if path.suffix != ".pub"]
    assert len(files) >= 4
    return [line.split(":")[-1] for path in files for line in path.read_text(errors="replace").split()]


def test_secrets_are_files_that_nobody_else_can_read(platform: LivePlatform) -> None:
    assert stat.S_IMODE((platform.home / "secrets").stat().st_mode) == 0o700
    for path in (platform.home / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_no_secret_shows_while_a_job_runs_and_after(
    platform: LivePlatform, client: Client, secrets: list[str]
) -> None:
    job = client.jobs.submit(sums_spec("secrets"))
    running = wait_for_step(client, job.id, 20)
    attempt_dir = platform.home / "attempts" / running.attempts[0].id
    token = (attempt_dir / "token").read_text()
    assert stat.S_IMODE((attempt_dir / "token").stat().st_mode) == 0o600
    hidden = [*secrets, token]

    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if any(secret in line for secret in hidden)]
    wait_for_state(client, job.id, "succeeded", "failed")

    logs = [*(platform.home / "logs").rglob("*.log*"), *attempt_dir.rglob("log*"), attempt_dir / "run.json"]
    for path in [log for log in logs if log.is_file()]:
        text = path.read_text(errors="replace")
        assert not [secret for secret in hidden if secret in text], path
    history = _history(platform, job.id)
    assert not [secret for secret in hidden if secret in history]
    assert job.id not in json.dumps(_payloads(history)), "payloads are sealed, so the input can't be read"


def test_every_action_has_its_audit_row(platform: LivePlatform, client: Client) -> None:
    job = client.jobs.submit(sums_spec("audited"))
    client.jobs.set_priority(job.id, 600)
    client.jobs.pause(job.id)
    wait_for_state(client, job.id, "paused")
    client.jobs.resume(job.id)
    client.jobs.cancel(job.id)
    wait_for_state(client, job.id, "cancelled")
    client.jobs.retry(job.id)
    client.jobs.cancel(job.id)
    wait_for_state(client, job.id, "cancelled")

    with psycopg2.connect(database_dsn(platform.home)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT verb, actor, request_id FROM audit_log WHERE object_id = %s ORDER BY id", (job.id,)
        )
        rows = cursor.fetchall()
        verbs = [row[0] for row in rows if row[1] == "user:admin"]
        assert verbs == [
            "job.submit",
            "job.set_priority",
            "job.pause",
            "job.resume",
            "job.cancel",
            "job.retry",
            "job.cancel",
        ]
        assert all(row[2] for row in rows if row[1] == "user:admin")
        with pytest.raises(psycopg2.Error):
            cursor.execute("DELETE FROM audit_log")
    connection.close()


def _history(platform: LivePlatform, job_id: str) -> str:
    address = read_platform(platform.home).temporal_address
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    command = [
        str(binary),
        "workflow",
        "show",
        "-w",
        f"job/{job_id}",
        "--address",
        address,
        "--output",
        "json",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _payloads(history: str) -> list[object]:
    started = json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]
    return started["input"]["payloads"] if "payloads" in started["input"] else [started["input"]]
