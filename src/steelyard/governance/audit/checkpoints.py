"""Checkpoints of C2SP (c2sp.org/tlog-checkpoint): a tree's size and root as a signed note. Pure."""

import base64
import binascii
import re
from dataclasses import dataclass

from steelyard.governance.audit.merkle import HASH_BYTES
from steelyard.governance.audit.notes import InvalidNote, Signer, Verifier, open_note, split_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """What a log commits to: that its first `size` leaves have this root."""

    origin: str
    """The log's identity; also the name of its key."""
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(size: int, root: bytes, signer: Signer) -> str:
    """Return the signed note of a tree; its origin is the key's name."""
    return signer.sign(str(Checkpoint(signer.name, size, root)))


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """Return what a note says that the key has signed.

    Raises:
        InvalidNote: the signature doesn't hold, or the text isn't a checkpoint of that key's log.
    """
    checkpoint = _parse(open_note(note, verifier))
    if checkpoint.origin != verifier.name:
        raise InvalidNote(f"the checkpoint is of the log {checkpoint.origin}, not of {verifier.name}")
    return checkpoint


def peek_checkpoint(note: str) -> Checkpoint:
    """Return what a note says, without a look at its signature: trust nothing of it.

    Raises:
        InvalidNote: it isn't the note of a checkpoint.
    """
    return _parse(split_note(note)[0])


def _parse(text: str) -> Checkpoint:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines) or not _SIZE.fullmatch(lines[1]):
        raise InvalidNote("the note isn't a checkpoint: origin, size and root, a line each")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != HASH_BYTES:
        raise InvalidNote("the checkpoint's root isn't a hash of 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)
