"""Showing that a row is in the trail, to somebody who has nothing but the proof and the public key. Pure."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from steelyard.governance.audit.checkpoints import Checkpoint, open_checkpoint
from steelyard.governance.audit.leaves import leaf_bytes
from steelyard.governance.audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from steelyard.governance.audit.notes import InvalidNote, Verifier
from steelyard.governance.audit.records import Seal, SealedRow
from steelyard.kit.errors import InvalidRequest, TamperedTrail
from steelyard.specs.base import Message

FORMAT = "steelyard-audit-proof/1"


class InclusionProof(Message):
    """A row, its place, the hashes beside its path to the root, and the signed checkpoint with that root."""

    format: str = FORMAT
    leaf: str
    """The canonical text of the row: what is hashed, byte for byte."""
    position: int
    hashes: list[str]
    """Base64, the lowest sibling first."""
    checkpoint: str


def make_proof(sealed: SealedRow, hashes: Sequence[bytes], seal: Seal) -> InclusionProof:
    """Prove a row.

    Args:
        sealed: the row with its leaf.
        hashes: all leaf hashes up to the seal.
        seal: the seal whose checkpoint the proof is for.

    Raises:
        TamperedTrail: the row isn't what was sealed, or the hashes don't give the seal's root.
    """
    assert sealed.row is not None
    leaf = leaf_bytes(sealed.row)
    path = inclusion_proof(hashes, sealed.position)
    if not verify_inclusion(leaf_hash(leaf), sealed.position, seal.size, path, seal.root):
        raise TamperedTrail(
            f"row {sealed.row_id} can't be proved, because the trail was changed; `steelyard audit verify` "
            "says where"
        )
    return InclusionProof(
        leaf=leaf.decode(),
        position=sealed.position,
        hashes=[base64.b64encode(sibling).decode() for sibling in path],
        checkpoint=seal.note,
    )


def read_proof(text: str) -> InclusionProof:
    """Read a proof from JSON.

    Raises:
        InvalidRequest: it isn't one.
    """
    try:
        proof = InclusionProof.model_validate_json(text)
    except ValidationError as error:
        raise InvalidRequest("this isn't a proof that `steelyard audit prove` wrote") from error
    if proof.format != FORMAT:
        raise InvalidRequest(f"the proof is of the format {proof.format}; this version reads {FORMAT}")
    return proof


def check_proof(proof: InclusionProof, verifier: Verifier) -> tuple[dict[str, Any], Checkpoint]:
    """Return the row that a proof is of, and the checkpoint that it is in.

    Raises:
        TamperedTrail: the proof doesn't hold.
    """
    try:
        checkpoint = open_checkpoint(proof.checkpoint, verifier)
        hashes = [base64.b64decode(sibling, validate=True) for sibling in proof.hashes]
    except InvalidNote as error:
        raise TamperedTrail(f"the proof doesn't hold: its checkpoint {error}") from error
    except ValueError as error:
        raise TamperedTrail("the proof doesn't hold: its hashes can't be read") from error
    leaf = leaf_hash(proof.leaf.encode())
    if not verify_inclusion(leaf, proof.position, checkpoint.size, hashes, checkpoint.root):
        raise TamperedTrail("the proof doesn't hold: this row isn't at this place of the signed trail")
    return json.loads(proof.leaf), checkpoint
