"""Rows are tokenized once: before the first job has a place, and never again."""

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state
from tests.e2e.specs import sums_spec

from steelyard.client import Client
from steelyard.specs.views import EventView, JobView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_the_second_job_finds_what_the_first_made(platform: LivePlatform) -> None:
    with platform.client() as client:
        first, second = (run(client, name) for name in ("tokens-1", "tokens-2"))
        made, found = tokenized(client, first), tokenized(client, second)
        assert (made.data["hit"], found.data["hit"]) == (False, True)
        assert made.data["digest"] == found.data["digest"] == second.lineage["tokens"]
        kinds = [event.type for event in client.jobs.events(first.id)]
        assert kinds.index("job.tokenized") < kinds.index("job.admitted")
    for job in (first, second):
        assert f"tokens {second.lineage['tokens']}" in log_of(platform, job)
    shown = platform.json("data", "show", second.lineage["dataset_ref"])["tokenized"]
    (cache,) = (each for each in shown if each["max_length"] == 57)
    assert (cache["digest"], cache["packing"]) == (second.lineage["tokens"], False)
    assert cache["tokens"] > cache["rows"] > 0


def test_what_cannot_be_tokenized_never_has_a_place(platform: LivePlatform) -> None:
    with platform.client() as client:
        spec = sums_spec("too-long", max_steps=4)
        spec["training"] |= {"max_length": 8}
        job = client.jobs.submit(spec)
        ended = wait_for_state(client, job.id, "failed", "succeeded")
        assert (ended.state, ended.status_reason) == ("failed", "sequence_too_long")
        assert "set training.overlong" in (ended.status_message or "")
        assert not ended.attempts
        assert "job.admitted" not in [event.type for event in client.jobs.events(job.id)]


def run(client: Client, name: str) -> JobView:
    spec = sums_spec(name, max_steps=4)
    spec["training"] |= {"max_length": 57}
    job = client.jobs.submit(spec)
    ended = wait_for_state(client, job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.status_message
    return ended


def tokenized(client: Client, job: JobView) -> EventView:
    (event,) = (event for event in client.jobs.events(job.id) if event.type == "job.tokenized")
    return event


def log_of(platform: LivePlatform, job: JobView) -> str:
    folders = (platform.home / "attempts" / attempt.id / "log" for attempt in job.attempts)
    return "".join(file.read_text() for folder in folders for file in sorted(folder.iterdir()))
