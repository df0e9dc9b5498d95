"""Keys for one purpose each, derived from the one key that the home keeps."""

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from steelyard.governance.identity import AttemptTokens, SessionTokens
from steelyard.server.home import HomeLayout


def read_platform_key(layout: HomeLayout) -> bytes:
    """Return the home's key, 32 bytes."""
    return base64.b64decode(layout.payload_key.read_text().split(":")[-1])


def attempt_tokens(platform_key: bytes) -> AttemptTokens:
    """Return what signs and checks the tokens of training processes."""
    return AttemptTokens(_derive(platform_key, b"attempt-tokens"))


def session_tokens(platform_key: bytes) -> SessionTokens:
    """Return what signs and checks the tokens of browser sessions."""
    return SessionTokens(_derive(platform_key, b"session-tokens"))


def _derive(platform_key: bytes, purpose: bytes) -> bytes:
    """Make a key for one purpose (HKDF with SHA-256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"steelyard/" + purpose).derive(platform_key)
