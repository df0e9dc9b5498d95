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
from steelyard.runtime.files import write_atomically

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


class KeyFile:
    """A file of keys, read again when it has changed, so that a rotation needs no restart. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], Sealer] | None = None

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt with the newest key; as `Sealer.seal`."""
        return self._sealer().seal(plaintext, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt with whichever key sealed; as `Sealer.open`."""
        return self._sealer().open(sealed, associated)

    @property
    def newest(self) -> str:
        """Id of the key that seals."""
        return list(read_keys(self._path))[-1]

    def _sealer(self) -> Sealer:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        known = self._read
        if known is None or known[0] != stamp:
            known = self._read = (stamp, Sealer(read_keys(self._path)))
        return known[1]


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that sealed a value."""
    return sealed[1 : 1 + sealed[0]].decode()


def add_key(path: Path, suffix: str = "") -> str:
    """Append a new key, which seals from now on; older ones still open. Returns its id: `k<number><suffix>`.

    One caller at a time. Dying on the way leaves the file as it was.
    """
    keys = read_keys(path)
    number = len(keys) + 1
    while (key_id := f"k{number}{suffix}") in keys:
        number += 1
    write_keys(path, {**keys, key_id: os.urandom(_KEY_BYTES)})
    return key_id


def drop_keys(path: Path, unused: set[str]) -> None:
    """Remove keys that seal nothing any more; the newest stays whatever is said."""
    keys = read_keys(path)
    newest = list(keys)[-1]
    write_keys(
        path, {key_id: key for key_id, key in keys.items() if key_id not in unused or key_id == newest}
    )


def write_keys(path: Path, keys: dict[str, bytes]) -> None:
    """Write a file that `read_keys` reads, for its owner alone."""
    lines = [f"{key_id}:{base64.b64encode(key).decode()}\n" for key_id, key in keys.items()]
    write_atomically(path, "".join(lines).encode(), 0o600)


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
