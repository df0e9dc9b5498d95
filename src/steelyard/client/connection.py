"""What the two transports have in common: headers, time limits, and the last word on an error."""

import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from steelyard import __version__
from steelyard.client.call import Call
from steelyard.client.discovery import CA_VARIABLE, Endpoint
from steelyard.client.errors import ClientError, CredentialsUnreadable, SteelyardApiError
from steelyard.kit.tls import client_context

_CONNECT_SECONDS = 5.0
_NOT_IMPLEMENTED = 501
_STREAM_SILENCE_SECONDS = 60.0


def headers_for(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers of every request."""
    headers = {"User-Agent": f"steelyard/{__version__}", "Accept": "application/json"}
    if endpoint.token:
        headers["Authorization"] = f"Bearer {endpoint.token}"
    return headers


def headers_of(call: Call[Any]) -> Mapping[str, str]:
    """Return the headers of one call."""
    if call.content is None:
        return call.headers
    return {"Content-Type": "application/json", **call.headers}


def time_limits(timeout_seconds: float) -> httpx.Timeout:
    """Return the limits of a plain call."""
    return httpx.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))


def stream_time_limits() -> httpx.Timeout:
    """Return the limits of a stream: one that sends not even a ping for a minute is taken for broken."""
    return httpx.Timeout(_STREAM_SILENCE_SECONDS, connect=_CONNECT_SECONDS)


def uses_proxies(endpoint: Endpoint) -> bool:
    """Whether proxies of the environment are meant for this address: never for this machine's own."""
    host = httpx.URL(endpoint.api_url).host
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def verification(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Return what the server's certificate is checked against.

    Raises:
        CredentialsUnreadable: a certificate file can't be read.
    """
    try:
        return client_context(endpoint.tls)
    except OSError as cause:
        raise CredentialsUnreadable(
            f"The certificates for {endpoint.api_url} can't be read ({cause}); check {CA_VARIABLE}, or the "
            "folder that `steelyard certs dev` made."
        ) from None


def note_key(error: ClientError, call: Call[Any]) -> None:
    """Put the call's idempotency key on an error that leaves open whether the call took effect."""
    refused = isinstance(error, SteelyardApiError) and (
        error.http_status < 500 or error.http_status == _NOT_IMPLEMENTED
    )
    if not refused:
        error.idempotency_key = call.headers.get("Idempotency-Key")
