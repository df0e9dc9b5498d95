"""Envelope encryption: a data key for each value, which lies under one of the platform's keys.

A rotation wraps the data keys anew and never touches the values. Both seals are bound to project and name, so
that a row which somebody moved to another project doesn't open.
"""

import os
from dataclasses import dataclass

from steelyard.storage.encryption import KeyFile, Sealer, key_id_of

_DATA_KEY_ID = "data"
_KEY_BYTES = 32


@dataclass(frozen=True)
class Envelope:
    """What is stored of a secret."""

    key_id: str
    wrapped_key: bytes
    sealed: bytes


def seal(keys: KeyFile, value: bytes, place: bytes) -> Envelope:
    """Put a value into an envelope that opens only at `place`."""
    data_key = os.urandom(_KEY_BYTES)
    wrapped = keys.seal(data_key, _wrapping(place))
    return Envelope(key_id_of(wrapped), wrapped, Sealer({_DATA_KEY_ID: data_key}).seal(value, place))


def open_envelope(keys: KeyFile, envelope: Envelope, place: bytes) -> bytes:
    """Return the value.

    Raises:
        SealBroken: unknown key, another place, or changed bytes.
    """
    data_key = keys.open(envelope.wrapped_key, _wrapping(place))
    return Sealer({_DATA_KEY_ID: data_key}).open(envelope.sealed, place)


def rewrap(keys: KeyFile, envelope: Envelope, place: bytes) -> Envelope:
    """Wrap the data key under the newest key; the value stays sealed as it is.

    Raises:
        SealBroken: as for `open_envelope`.
    """
    data_key = keys.open(envelope.wrapped_key, _wrapping(place))
    wrapped = keys.seal(data_key, _wrapping(place))
    return Envelope(key_id_of(wrapped), wrapped, envelope.sealed)


def place_of(project_id: str, name: str) -> bytes:
    """Return the associated data of a project's secret. Neither part can hold the separator."""
    return f"secret/{project_id}/{name}".encode()


def _wrapping(place: bytes) -> bytes:
    return b"key/" + place
