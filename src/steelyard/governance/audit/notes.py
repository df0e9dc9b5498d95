"""Signed notes of C2SP (c2sp.org/signed-note), with Ed25519 signatures. Pure.

A note is text that ends with a newline, an empty line, and signature lines:
`EM DASH, space, key name, space, base64(key id || signature), newline`. A key id is the first four bytes of
`SHA-256(key name || 0x0A || 0x01 || public key)`. Keys are written as Go's `sumdb/note` writes them:
`<name>+<key id in hex>+<base64(0x01 || public key)>`, a private one with `PRIVATE+KEY+` before it and the
seed in place of the public key.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_MAX_NOTE_BYTES = 1 << 20
_MAX_SIGNATURES = 100
_PRIVATE_PREFIX = "PRIVATE+KEY+"
_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME = re.compile(r"[^\s+]+")


class InvalidNote(ValueError):
    """A note or key that breaks the format, or a signature that doesn't hold."""


@dataclass(frozen=True)
class Verifier:
    """A public key under its name."""

    name: str
    public_key: bytes
    """32 bytes, as RFC 8032 writes them."""

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[
            :_KEY_ID_BYTES
        ]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Read a verifier key.

        Raises:
            InvalidNote: it isn't one, or its id isn't that of its key.
        """
        name, key_id, key = _parse_key(text.strip())
        verifier = cls(name, key)
        if verifier.key_id.hex() != key_id:
            raise InvalidNote("the verifier key's id doesn't belong to its key; copy it again, whole")
        return verifier

    def accepts(self, text: str, signature: bytes) -> bool:
        """Whether a signature of the text is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key under its name."""

    name: str
    seed: bytes = field(repr=False)
    """32 bytes: the private key as RFC 8032 writes it."""

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        public_key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return Verifier(self.name, public_key.public_bytes_raw())

    def encode(self) -> str:
        """Write the key, secret and all."""
        body = base64.b64encode(_ED25519 + self.seed).decode()
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{body}"

    @classmethod
    def parse(cls, text: str) -> "Signer":
        """Read what `encode` wrote.

        Raises:
            InvalidNote: it isn't a private key, or its id isn't that of its key.
        """
        stripped = text.strip()
        if not stripped.startswith(_PRIVATE_PREFIX):
            raise InvalidNote("this isn't the private key of a note")
        name, key_id, seed = _parse_key(stripped.removeprefix(_PRIVATE_PREFIX))
        signer = cls(name, seed)
        if signer.verifier.key_id.hex() != key_id:
            raise InvalidNote("the private key's id doesn't belong to its key")
        return signer

    def sign(self, text: str) -> str:
        """Return the note of a text that ends with a newline.

        Raises:
            InvalidNote: such a text can't be a note's.
        """
        if not text.endswith("\n") or _CONTROL.search(text):
            raise InvalidNote("a note's text ends with a newline and has no other control characters")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        encoded = base64.b64encode(self.verifier.key_id + signature).decode()
        return f"{text}\n{_DASH}{self.name} {encoded}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """Return the text of a note that the key has signed. Signatures of other keys are passed over.

    Raises:
        InvalidNote: it isn't a note, the key hasn't signed it, or its signature doesn't hold.
    """
    text, signatures = split_note(note)
    ours = [signature for name, signature in signatures if _is_from(verifier, name, signature)]
    if not ours:
        names = ", ".join(sorted({name for name, _ in signatures}))
        raise InvalidNote(f"it isn't signed by {verifier.name} with this key, but by {names}")
    if not all(verifier.accepts(text, signature[_KEY_ID_BYTES:]) for signature in ours):
        raise InvalidNote(f"the signature of {verifier.name} doesn't hold")
    return text


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a note's text, and its signatures as pairs of key name and `key id || signature`. Checks none.

    Raises:
        InvalidNote: it isn't a note.
    """
    if len(note.encode()) > _MAX_NOTE_BYTES or _CONTROL.search(note):
        raise InvalidNote("it is too long for a note, or has control characters")
    body, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise InvalidNote("it has no signature lines after an empty line")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise InvalidNote(f"it has more than {_MAX_SIGNATURES} signatures")
    return f"{body}\n", [_parse_signature(line) for line in lines]


def _is_from(verifier: Verifier, name: str, signature: bytes) -> bool:
    return name == verifier.name and signature[:_KEY_ID_BYTES] == verifier.key_id


def _parse_signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    signature = _decode(encoded)
    if not line.startswith(_DASH) or not _NAME.fullmatch(name) or len(signature) <= _KEY_ID_BYTES:
        raise InvalidNote("a signature line is malformed")
    return name, signature


def _parse_key(text: str) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    body = _decode(encoded)
    if not _NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{8}", key_id) or len(body) != 33:
        raise InvalidNote("this isn't a note's key: <name>+<8 hex digits>+<base64>")
    if body[:1] != _ED25519:
        raise InvalidNote("the key isn't an Ed25519 key")
    return name, key_id, body[1:]


def _decode(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
