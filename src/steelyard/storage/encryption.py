"""Authenticated encryption with named keys: AES-256-GCM, a fresh nonce each time.

A sealed value is `key id length (1 byte) | key id | nonce (12 bytes) | ciphertext and tag`. The associated
data binds a value to its place, so that it can't be moved to another.
"""

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from steelyard.kit.errors import SteelyardError

_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealBroken(SteelyardError):
    """A sealed value was made with an unknown key, or was changed."""

    code = "seal_broken"


class Sealer:
    """Seals with the newest key, opens with any.

    Args:
        keys: key id (at most 255 bytes) -> 32 bytes; the last one seals.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._newest = list(keys)[-1]

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt `plaintext` for the place that `associated` names."""
        nonce = os.urandom(_NONCE_BYTES)
        key_id = self._newest.encode()
        sealed = self._ciphers[self._newest].encrypt(nonce, plaintext, associated)
        return bytes([len(key_id)]) + key_id + nonce + sealed

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            SealBroken: unknown key, other place, or changed bytes.
        """
        length = sealed[0]
        key_id = sealed[1 : 1 + length].decode()
        nonce = sealed[1 + length : 1 + length + _NONCE_BYTES]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealBroken(f"sealed with key {key_id!r}, which is not configured; add it to the key file")
        try:
            return cipher.decrypt(nonce, sealed[1 + length + _NONCE_BYTES :], associated)
        except InvalidTag as error:
            raise SealBroken("a sealed value was changed or belongs to another place") from error


def read_keys(path: Path) -> dict[str, bytes]:
    """Read keys from a file of lines `key_id:base64` or bare base64 (key id `k1`), oldest first.

    Raises:
        ValueError: a key is not 32 bytes long.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(path.read_text().split(), start=1):
        key_id, _, encoded = line.rpartition(":")
        key = base64.b64decode(encoded)
        if len(key) != _KEY_BYTES:
            raise ValueError(f"{path}: key {number} has {len(key)} bytes, needs {_KEY_BYTES}")
        keys[key_id or f"k{number}"] = key
    return keys
