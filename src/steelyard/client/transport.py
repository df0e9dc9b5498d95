"""HTTP, blocking: pooled connections, retries, streams."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import httpx

from steelyard.client.call import Call, read_answer, read_error, read_failure
from steelyard.client.connection import (
    headers_for,
    headers_of,
    note_key,
    stream_time_limits,
    time_limits,
    uses_proxies,
    verification,
)
from steelyard.client.discovery import Endpoint
from steelyard.client.errors import ClientError
from steelyard.client.retries import Retries, RetryPolicy

Answer = TypeVar("Answer")


class ByteStream:
    """An open streamed answer."""

    def __init__(self, response: httpx.Response, api_url: str) -> None:
        self._response = response
        self._api_url = api_url
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it comes in.

        Raises:
            ConnectionFailed: it broke off.
        """
        try:
            yield from self._response.iter_bytes()
        except httpx.HTTPError as cause:
            raise read_failure(cause, self._api_url) from cause


class Transport:
    """Carries calls. Threads may share one."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float, policy: RetryPolicy) -> None:
        self.api_url = endpoint.api_url
        self.policy = policy
        self._timeout_seconds = timeout_seconds
        self._http = httpx.Client(
            base_url=endpoint.api_url,
            headers=headers_for(endpoint),
            timeout=time_limits(timeout_seconds),
            trust_env=uses_proxies(endpoint),
            verify=verification(endpoint),
        )

    def send(self, call: Call[Answer]) -> Answer:
        """Send a call, again where that is due, and return its answer."""
        retries = Retries(self.policy)
        while True:
            try:
                return self.send_once(call)
            except ClientError as error:
                pause = retries.pause_seconds(error)
                if pause is None:
                    note_key(error, call)
                    raise
            self.sleep(pause)

    def send_once(self, call: Call[Answer]) -> Answer:
        """Send a call a single time."""
        try:
            with nullcontext(call.content) if call.file is None else call.file.open("rb") as content:
                response = self._http.request(
                    call.method, call.path, params=call.query, headers=headers_of(call), content=content,
                    timeout=time_limits(call.timeout_seconds or self._timeout_seconds),
                )  # fmt: skip
        except httpx.HTTPError as cause:
            raise read_failure(cause, self.api_url) from cause
        return read_answer(call, response.status_code, response.headers, response.content)

    @contextmanager
    def stream(self, call: Call[bytes]) -> Generator[ByteStream]:
        """Open a streamed answer; a single try."""
        try:
            with self._http.stream(
                call.method,
                call.path,
                params=call.query,
                headers=headers_of(call),
                timeout=stream_time_limits(),
            ) as response:
                if response.status_code >= 300:
                    raise read_error(response.status_code, response.headers, response.read())
                yield ByteStream(response, self.api_url)
        except httpx.HTTPError as cause:
            raise read_failure(cause, self.api_url) from cause

    def sleep(self, seconds: float) -> None:
        """Pause between tries."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
