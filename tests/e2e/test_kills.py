"""Bounded lost work: whatever is killed in the middle of a training, the job succeeds with the same weights.

"Same" is bit for bit: CPU, one thread, fixed seed. Every kill is a real SIGKILL of a real process.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_for_step, wait_until
from tests.e2e.specs import SAVE_STEPS, sums_spec

from steelyard.client import Client
from steelyard.specs.states import Reason
from steelyard.specs.views import JobView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(client: Client) -> JobView:
    """The same training with nothing killed."""
    job = client.jobs.submit(sums_spec())
    return wait_for_state(client, job.id, "succeeded", "failed")


def test_an_undisturbed_run_succeeds_and_is_registered(undisturbed: JobView) -> None:
    assert undisturbed.state == "succeeded", undisturbed.status_message
    assert undisturbed.model is not None
    assert len(undisturbed.attempts) == 1


@pytest.mark.parametrize("process", ["worker-1", "api", "temporal", "postgres", "mlflow", "forkserver"])
def test_killing_a_part_of_the_platform_does_not_stop_training(
    platform: LivePlatform, client: Client, undisturbed: JobView, process: str
) -> None:
    job = client.jobs.submit(sums_spec())
    before = wait_for_step(client, job.id, 30)

    platform.kill(process)

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert len(ended.attempts) == 1
    assert ended.attempts[0].pid == before.attempts[0].pid
    assert _weights(ended) == _weights(undisturbed)


def test_killing_the_supervisor_does_not_stop_training(
    platform: LivePlatform, client: Client, undisturbed: JobView
) -> None:
    job = client.jobs.submit(sums_spec())
    before = wait_for_step(client, job.id, 30)

    os.kill(platform.supervisor_pid(), signal.SIGKILL)
    platform.up()

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert len(ended.attempts) == 1
    assert ended.attempts[0].pid == before.attempts[0].pid
    assert _weights(ended) == _weights(undisturbed)


@pytest.mark.parametrize("victim", ["trainer", "shim"])
def test_killing_the_training_repeats_at_most_one_interval(
    client: Client, undisturbed: JobView, victim: str
) -> None:
    job = client.jobs.submit(sums_spec())
    running = wait_for_step(client, job.id, 90)
    trainer = running.attempts[-1].pid
    assert trainer is not None

    os.kill(trainer if victim == "trainer" else psutil.Process(trainer).ppid(), signal.SIGKILL)

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    first, second = ended.attempts
    assert second.resumed_from_step is not None
    assert 0 <= first.last_step - second.resumed_from_step <= SAVE_STEPS
    assert not psutil.pid_exists(trainer) or psutil.Process(trainer).status() == psutil.STATUS_ZOMBIE
    assert _weights(ended) == _weights(undisturbed)


def test_sigterm_from_outside_is_an_eviction_and_uses_no_retry(client: Client, undisturbed: JobView) -> None:
    job = client.jobs.submit(sums_spec())
    running = wait_for_step(client, job.id, 30)
    assert running.attempts[-1].pid is not None

    os.kill(running.attempts[-1].pid, signal.SIGTERM)

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert ended.retries_used == 0
    assert not ended.attempts[0].counted
    assert ended.attempts[1].resumed_from_step == ended.attempts[0].last_step
    assert _weights(ended) == _weights(undisturbed)


def test_a_flipped_byte_in_the_newest_checkpoint_sends_the_job_to_the_one_before(
    platform: LivePlatform, client: Client, undisturbed: JobView
) -> None:
    job = client.jobs.submit(sums_spec())
    wait_for_step(client, job.id, 90)
    client.jobs.pause(job.id)
    wait_for_state(client, job.id, "paused")
    newest, older = client.jobs.checkpoints(job.id)[:2]
    folder = platform.home / "objects" / "projects" / "default" / "jobs" / job.id / newest.path
    _flip_a_byte(next(folder.glob("*.safetensors")))

    client.jobs.resume(job.id)

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert ended.attempts[1].resumed_from_step == older.step
    types = {event.type: event for event in client.jobs.events(job.id)}
    assert types["checkpoint.damaged"].data["step"] == newest.step
    assert _weights(ended) == _weights(undisturbed)


def test_a_paused_job_survives_a_restart_of_the_platform(
    platform: LivePlatform, client: Client, undisturbed: JobView
) -> None:
    job = client.jobs.submit(sums_spec())
    wait_for_step(client, job.id, 30)
    client.jobs.pause(job.id)
    paused = wait_for_state(client, job.id, "paused")
    assert paused.status_reason == Reason.PAUSED_BY_USER

    platform.down()
    platform.up()

    assert client.jobs.get(job.id).state == "paused"
    client.jobs.resume(job.id)
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert _weights(ended) == _weights(undisturbed)


def test_a_platform_that_is_stopped_in_the_middle_goes_on_when_it_is_back(
    platform: LivePlatform, client: Client, undisturbed: JobView
) -> None:
    job = client.jobs.submit(sums_spec())
    running = wait_for_step(client, job.id, 30)

    platform.down()
    trainer = running.attempts[-1].pid or 0
    assert wait_until(lambda: not psutil.pid_exists(trainer), "the trainer to leave", 5)
    platform.up()

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert ended.retries_used == 0
    assert _weights(ended) == _weights(undisturbed)


def _weights(job: JobView) -> str:
    """Digest of the finished weights, as the manifest of the registered model has it."""
    assert job.model is not None
    return job.model.manifest_digest


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_a_temporal_that_lost_everything_is_told_again_and_training_goes_on(
    platform: LivePlatform, client: Client, undisturbed: JobView
) -> None:
    job = client.jobs.submit(sums_spec())
    before = wait_for_step(client, job.id, 30)

    os.kill(platform.pid("temporal"), signal.SIGKILL)
    for path in (platform.home / "temporal").iterdir():
        path.unlink()
    platform.kill("worker-1")

    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    assert ended.attempts[0].pid == before.attempts[0].pid
    assert len(ended.attempts) == 1
    assert _weights(ended) == _weights(undisturbed)
