"""Exactly one job for one key: under concurrency, dropped replies, a killed api, and with Temporal away."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until
from tests.e2e.specs import script_spec

from steelyard.client import Client
from steelyard.kit.ids import new_id

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PATH = "/v1/projects/default/jobs"
LATENCY_FACTOR = 5
LATENCY_SLACK_SECONDS = 0.5


@pytest.fixture(scope="module")
def client(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def raw(platform: LivePlatform, client: Client) -> Iterator[httpx.Client]:
    token = platform.run("token").stdout.strip()
    with httpx.Client(
        base_url=client.api_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
        limits=httpx.Limits(max_connections=60),
    ) as raw:
        yield raw


def test_fifty_concurrent_submissions_with_one_key_make_one_job_and_get_one_answer(
    client: Client, raw: httpx.Client
) -> None:
    key, body = new_id("key"), script_spec("fifty")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(_post, [raw] * 50, [body] * 50, [key] * 50))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert _jobs_named(client, "fifty") == [answers[0].json()["id"]]
    replayed = [answer for answer in answers if answer.headers.get("Idempotent-Replayed") == "true"]
    assert len(replayed) == 49


def test_the_same_key_with_another_body_is_refused_and_names_the_job(raw: httpx.Client) -> None:
    key = new_id("key")
    first = _post(raw, script_spec("first-body"), key).json()

    second = _post(raw, script_spec("other-body"), key)

    assert second.status_code == 422
    error = second.json()["error"]
    assert error["code"] == "idempotency_key_reused"
    assert error["details"]["job_id"] == first["id"]
    assert first["id"] in error["message"]


def test_the_order_of_fields_makes_no_other_body(raw: httpx.Client) -> None:
    key, body = new_id("key"), script_spec("order")
    first = _post(raw, body, key)

    second = _post(raw, dict(reversed(body.items())), key)

    assert (second.status_code, second.content) == (202, first.content)


def test_a_client_that_never_reads_its_replies_makes_one_job(client: Client, raw: httpx.Client) -> None:
    key, body = new_id("key"), script_spec("dropped")
    for _ in range(10):
        _send_and_hang_up(raw, body, key)

    answer = _post(raw, body, key)

    assert answer.status_code == 202
    assert _jobs_named(client, "dropped") == [answer.json()["id"]]


@pytest.mark.parametrize("delay_seconds", [0.001, 0.004, 0.008, 0.015])
def test_an_api_killed_around_its_commit_makes_one_job(
    platform: LivePlatform, client: Client, raw: httpx.Client, delay_seconds: float
) -> None:
    name = f"killed-{int(delay_seconds * 1000)}"
    key, body = new_id("key"), script_spec(name)
    api = platform.pid("api")
    _send_and_hang_up(raw, body, key, then=lambda: _kill_tree(api, delay_seconds))

    answer = wait_until(lambda: _try_post(raw, body, key), "the api to be back", 60)

    assert answer.status_code == 202
    assert _jobs_named(client, name) == [answer.json()["id"]]


def test_with_temporal_away_submissions_are_taken_as_quickly_and_run_once_it_is_back(
    platform: LivePlatform, client: Client, raw: httpx.Client
) -> None:
    usual = _seconds(lambda: _post(raw, script_spec("temporal-up"), new_id("key")))
    temporal = platform.pid("temporal")
    os.kill(temporal, signal.SIGSTOP)
    try:
        seconds: list[float] = []
        jobs: list[str] = []
        for number in range(5):
            started = time.perf_counter()
            answer = _post(raw, script_spec(f"temporal-down-{number}"), new_id("key"))
            seconds.append(time.perf_counter() - started)
            assert answer.status_code == 202
            jobs.append(answer.json()["id"])
    finally:
        os.kill(temporal, signal.SIGCONT)
    assert max(seconds) < LATENCY_FACTOR * usual + LATENCY_SLACK_SECONDS

    for job in jobs:
        ended = wait_for_state(client, job, "succeeded", "failed", timeout_seconds=120)
        assert ended.state == "succeeded", ended.status_message
        assert len(ended.attempts) == 1


def _post(raw: httpx.Client, body: dict[str, Any], key: str) -> httpx.Response:
    return raw.post(PATH, json=body, headers={"Idempotency-Key": key})


def _try_post(raw: httpx.Client, body: dict[str, Any], key: str) -> httpx.Response | None:
    try:
        answer = _post(raw, body, key)
    except httpx.TransportError:
        return None
    return None if answer.status_code == 503 else answer


def _send_and_hang_up(raw: httpx.Client, body: dict[str, Any], key: str, then: Any = None) -> None:
    """Send a whole request, and close the connection without reading the reply."""
    request = raw.build_request("POST", PATH, json=body, headers={"Idempotency-Key": key})
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    with socket.create_connection((raw.base_url.host, raw.base_url.port or 80)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
        if then is not None:
            then()


def _kill_tree(pid: int, delay_seconds: float) -> None:
    """Kill the api and its worker processes, a moment after the request went out."""
    children = psutil.Process(pid).children(recursive=True)
    deadline = time.perf_counter() + delay_seconds
    while time.perf_counter() < deadline:
        pass
    for process in [psutil.Process(pid), *children]:
        process.kill()


def _jobs_named(client: Client, name: str) -> list[str]:
    return [job.id for job in client.jobs.list(name=name).data]


def _seconds(act: Any) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
