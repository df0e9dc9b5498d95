"""DSSE: the protocol's own example, and what must not pass."""

import base64
import json
from typing import Any

import pytest

from steelyard.governance.audit.notes import Signer
from steelyard.registry.envelopes import InvalidEnvelope, encode_for_signing, open_envelope, sign_statement

SIGNER = Signer("test/lineage", b"s" * 32)
STATEMENT: dict[str, Any] = {"_type": "https://in-toto.io/Statement/v1", "subject": []}


def test_the_encoding_is_the_protocols() -> None:
    assert encode_for_signing(b"hi") == b"DSSEv1 28 application/vnd.in-toto+json 2 hi"


def test_signing_twice_gives_the_same_text_and_opens() -> None:
    envelope = sign_statement(STATEMENT, SIGNER)
    assert sign_statement(dict(reversed(STATEMENT.items())), SIGNER) == envelope
    assert open_envelope(envelope, SIGNER.verifier) == STATEMENT


def test_another_key_opens_nothing() -> None:
    with pytest.raises(InvalidEnvelope, match="no signature"):
        open_envelope(sign_statement(STATEMENT, SIGNER), Signer("test/lineage", b"t" * 32).verifier)


def _changed(envelope: str, **parts: object) -> str:
    return json.dumps({**json.loads(envelope), **parts})


@pytest.mark.parametrize(
    "parts",
    [
        {"payload": base64.b64encode(b'{"subject":[1]}').decode()},
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [{"sig": "not base64!"}]},
        {"payload": 7},
    ],
)
def test_a_changed_envelope_opens_nothing(parts: dict[str, object]) -> None:
    with pytest.raises(InvalidEnvelope):
        open_envelope(_changed(sign_statement(STATEMENT, SIGNER), **parts), SIGNER.verifier)


def test_nonsense_is_no_envelope() -> None:
    with pytest.raises(InvalidEnvelope):
        open_envelope("[]", SIGNER.verifier)
