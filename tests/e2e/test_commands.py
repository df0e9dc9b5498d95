"""What people ask of jobs, and what becomes of it."""

import time
from collections.abc import Iterator

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_for_step, wait_until
from tests.e2e.specs import script_spec, sums_spec

from steelyard.client import Client, Conflict, NotFound, UnprocessableEntity
from steelyard.specs.states import Reason

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


class TestPause:
    def test_pause_saves_frees_the_slot_and_resumes(self, client: Client) -> None:
        job = client.jobs.submit(sums_spec("pause"))
        wait_for_step(client, job.id, 30)

        asked = time.monotonic()
        client.jobs.pause(job.id)
        paused = wait_for_state(client, job.id, "paused")
        assert time.monotonic() - asked < 10

        assert paused.status_reason == Reason.PAUSED_BY_USER
        assert client.jobs.checkpoints(job.id)[0].step == paused.attempts[-1].last_step
        with pytest.raises(Conflict, match="paused"):
            client.jobs.pause(job.id)
        client.jobs.resume(job.id)
        wait_for_state(client, job.id, "queued", "starting", "running")
        with pytest.raises(Conflict, match="can't resume"):
            client.jobs.resume(job.id)
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert ended.state == "succeeded", ended.status_message
        assert ended.retries_used == 0

    def test_a_queued_job_is_paused_at_once(self, client: Client) -> None:
        blockers = [client.jobs.submit(sums_spec(f"blocker-{number}", max_steps=2000)) for number in range(2)]
        for blocker in blockers:
            wait_for_state(client, blocker.id, "running")
        job = client.jobs.submit(sums_spec("queued-pause"))
        wait_for_state(client, job.id, "queued")
        explained = client.jobs.explain(job.id)
        assert explained.queue_position == 1
        assert any(blocker.id in sentence for sentence in explained.waiting_for for blocker in blockers)

        client.jobs.pause(job.id)
        wait_for_state(client, job.id, "paused")

        for each in [job, *blockers]:
            client.jobs.cancel(each.id)
        for each in [job, *blockers]:
            wait_for_state(client, each.id, "cancelled")


class TestCancelAndRetry:
    def test_cancel_stops_at_a_step_and_retry_goes_on_from_a_named_checkpoint(self, client: Client) -> None:
        job = client.jobs.submit(sums_spec("cancel"))
        wait_for_step(client, job.id, 90)
        client.jobs.cancel(job.id)
        cancelled = wait_for_state(client, job.id, "cancelled")
        assert cancelled.attempts[-1].cause == Reason.CANCELLED_BY_USER
        with pytest.raises(Conflict, match="cancelled"):
            client.jobs.cancel(job.id)
        older = client.jobs.checkpoints(job.id)[1]
        with pytest.raises(NotFound):
            client.jobs.retry(job.id, step=older.step + 1)

        client.jobs.retry(job.id, step=older.step)

        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert ended.state == "succeeded", ended.status_message
        assert ended.attempts[1].resumed_from_step == older.step
        with pytest.raises(Conflict, match="succeeded"):
            client.jobs.retry(job.id)


class TestQueue:
    def test_higher_priority_goes_first_then_first_come(self, client: Client) -> None:
        blockers = [client.jobs.submit(sums_spec(f"holder-{number}", max_steps=3000)) for number in range(2)]
        for blocker in blockers:
            wait_for_state(client, blocker.id, "running")
        waiting = [
            client.jobs.submit(script_spec(f"waiting-{priority}-{number}", priority=priority))
            for number, priority in enumerate((500, 500, 400))
        ]
        for job in waiting:
            wait_for_state(client, job.id, "queued")
        client.jobs.set_priority(waiting[2].id, 900)
        positions = [client.jobs.explain(job.id).queue_position for job in waiting]
        assert positions == [2, 3, 1]

        client.jobs.cancel(blockers[0].id)
        ended = [wait_for_state(client, job.id, "succeeded", "failed") for job in waiting]

        starts = [job.attempts[0].started_at for job in ended]
        assert starts[2] < starts[0] < starts[1]
        client.jobs.cancel(blockers[1].id)
        for blocker in blockers:
            wait_for_state(client, blocker.id, "cancelled")

    def test_what_no_node_holds_is_refused_with_the_numbers(self, client: Client) -> None:
        with pytest.raises(UnprocessableEntity, match=r"resources\.cpus: 1000"):
            client.jobs.submit(script_spec("too-big", resources={"cpus": 1000, "memory_gb": 1.0}))


class TestFailures:
    def test_a_nan_loss_fails_with_that_reason_and_is_not_retried(self, client: Client) -> None:
        source = (
            "from steelyard import runtime\nruntime.init().report(step=1, total_steps=2, loss=float('nan'))\n"
        )
        job = client.jobs.submit(script_spec("nan", source))
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert (ended.state, ended.status_reason) == ("failed", Reason.NAN_LOSS)
        assert len(ended.attempts) == 1

    def test_exit_64_is_never_retried(self, client: Client) -> None:
        job = client.jobs.submit(script_spec("bad-config", "raise SystemExit(64)"))
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert (ended.state, ended.status_reason) == ("failed", Reason.BAD_CONFIG)
        assert len(ended.attempts) == 1

    def test_a_crash_is_retried_as_often_as_the_limit_says(self, client: Client) -> None:
        job = client.jobs.submit(script_spec("crash", "raise SystemExit(3)", limits={"max_retries": 1}))
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert (ended.state, ended.status_reason) == ("failed", Reason.RETRIES_EXHAUSTED)
        assert [attempt.counted for attempt in ended.attempts] == [True, True]

    def test_a_model_that_is_not_there_fails_with_a_remedy(self, client: Client) -> None:
        spec = {**sums_spec("no-model"), "model": {"name_or_path": "/no/such/folder"}}
        job = client.jobs.submit(spec)
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert (ended.state, ended.status_reason) == ("failed", Reason.MODEL_NOT_FOUND)

    def test_a_sequence_too_long_names_the_row_and_the_remedy(self, client: Client) -> None:
        job = client.jobs.submit(sums_spec("too-long", max_length=8))
        ended = wait_for_state(client, job.id, "succeeded", "failed")
        assert (ended.state, ended.status_reason) == ("failed", Reason.SEQUENCE_TOO_LONG)
        # Found while it is tokenized: it never asked for a place.
        assert ended.attempts == []

    def test_a_dataset_that_is_not_there_is_refused_at_submission(self, client: Client) -> None:
        with pytest.raises(UnprocessableEntity, match="nothing-here") as caught:
            client.jobs.submit({**sums_spec("no-data"), "dataset": {"ref": "nothing-here"}})
        assert caught.value.param == "dataset.ref"


def test_steps_of_a_job_that_is_paused_over_and_over_are_never_lost(client: Client) -> None:
    job = client.jobs.submit(sums_spec("again-and-again"))
    for step in (20, 60, 100):
        wait_for_step(client, job.id, step)
        client.jobs.pause(job.id)
        if wait_for_state(client, job.id, "paused", "succeeded").state == "succeeded":
            break
        client.jobs.resume(job.id)
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    for before, after in zip(ended.attempts, ended.attempts[1:], strict=False):
        assert after.resumed_from_step == before.last_step
    assert wait_until(lambda: client.jobs.get(job.id).progress.step, "the last step") == 300
