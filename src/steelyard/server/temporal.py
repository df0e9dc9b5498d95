"""The connection to Temporal: encrypted payloads, and calls that give up soon."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, RetryConfig, TLSConfig
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from steelyard.server.certificates import Certificates
from steelyard.storage.encryption import KeyFile

_ENCODING = b"binary/steelyard-sealed"
_PLACE = b"temporal-payload"


class SealingCodec(PayloadCodec):
    """Seals every payload with AES-256-GCM; the key's id travels with it, so that keys can rotate."""

    def __init__(self, sealer: KeyFile) -> None:
        self._sealer = sealer

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Seal payloads."""
        return [
            Payload(
                metadata={"encoding": _ENCODING}, data=self._sealer.seal(payload.SerializeToString(), _PLACE)
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Open sealed payloads; others pass as they are."""
        return [
            Payload.FromString(self._sealer.open(payload.data, _PLACE))
            if payload.metadata.get("encoding") == _ENCODING
            else payload
            for payload in payloads
        ]


def data_converter(key_file: Path) -> DataConverter:
    """Return the converter that all our clients and workers share."""
    codec = SealingCodec(KeyFile(key_file))
    return dataclasses.replace(pydantic_data_converter, payload_codec=codec)


async def connect(
    address: str,
    namespace: str,
    key_file: Path,
    metrics_address: str | None = None,
    certificates: Certificates | None = None,
) -> Client:
    """Connect to Temporal.

    Calls retry for half a second at most: whoever calls has an outbox or a loop behind it.

    Args:
        certificates: speak mutual TLS with these; a Temporal of one's own has them.

    Raises:
        RuntimeError: the server doesn't answer.
    """
    runtime = None
    if metrics_address is not None:
        runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=metrics_address)))
    return await Client.connect(
        address,
        namespace=namespace,
        data_converter=data_converter(key_file),
        interceptors=[TracingInterceptor()],
        runtime=runtime,
        tls=_tls(certificates) if certificates else False,
        retry_config=RetryConfig(initial_interval_millis=50, max_elapsed_time_millis=500, max_retries=3),
    )


def _tls(certificates: Certificates) -> TLSConfig:
    certificates.require(client=True)
    return TLSConfig(
        server_root_ca_cert=certificates.authority.read_bytes(),
        client_cert=certificates.certificate("client").read_bytes(),
        client_private_key=certificates.key("client").read_bytes(),
    )
