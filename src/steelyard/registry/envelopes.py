"""Signed envelopes around statements, pure: DSSE v1.0.2 (github.com/secure-systems-lab/dsse), Ed25519."""

import base64
import binascii
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from steelyard.governance.audit.notes import Signer, Verifier
from steelyard.kit.canonical import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class InvalidEnvelope(ValueError):
    """An envelope that breaks the format, or that the key hasn't signed."""


def sign_statement(statement: dict[str, Any], signer: Signer) -> str:
    """Return the envelope of a statement, as JSON text. Equal statements give equal text."""
    payload = canonical_json(statement)
    signature = Ed25519PrivateKey.from_private_bytes(signer.seed).sign(encode_for_signing(payload))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": str(signer.verifier), "sig": base64.b64encode(signature).decode()}],
    }
    return canonical_json(envelope).decode()


def open_envelope(text: str, verifier: Verifier) -> dict[str, Any]:
    """Return the statement of an envelope that the key has signed.

    Raises:
        InvalidEnvelope: it isn't one, or no signature of this key holds.
    """
    try:
        envelope = json.loads(text)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]]
        known = envelope["payloadType"] == PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InvalidEnvelope(f"it isn't a DSSE envelope ({error})") from error
    if not known:
        raise InvalidEnvelope("its payload isn't an in-toto statement")
    if not any(_holds(verifier, payload, signature) for signature in signatures):
        raise InvalidEnvelope(f"no signature of {verifier.name} holds")
    return json.loads(payload)


def _holds(verifier: Verifier, payload: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(signature, encode_for_signing(payload))
    except InvalidSignature:
        return False
    return True


def encode_for_signing(payload: bytes) -> bytes:
    """Pre-authentication encoding, PAE: what is signed, so that no type is taken for another."""
    kind = PAYLOAD_TYPE.encode()
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))
