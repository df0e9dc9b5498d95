"""Keys for one purpose each, derived from the key that the home keeps for tokens."""

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from steelyard.governance.identity import AttemptTokens, SessionTokens
from steelyard.governance.oidc.tickets import Tickets
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.server.home import HomeLayout


def read_token_key(layout: HomeLayout) -> bytes:
    """Return the key that tokens are signed under, 32 bytes. It stays: tokens end by themselves."""
    return base64.b64decode(layout.token_key.read_text())


def attempt_tokens(token_key: bytes) -> AttemptTokens:
    """Return what signs and checks the tokens of training processes."""
    return AttemptTokens(_derive(token_key, b"attempt-tokens"))


def session_tokens(token_key: bytes) -> SessionTokens:
    """Return what signs and checks the tokens of browser sessions."""
    return SessionTokens(_derive(token_key, b"session-tokens"))


def webhook_secrets(token_key: bytes) -> WebhookSecrets:
    """Return what signs webhooks."""
    return WebhookSecrets(_derive(token_key, b"webhooks"))


def login_tickets(token_key: bytes) -> Tickets:
    """Return what seals the tickets of sign-ins that are under way."""
    return Tickets(_derive(token_key, b"login-tickets"))


def _derive(token_key: bytes, purpose: bytes) -> bytes:
    """Make a key for one purpose (HKDF with SHA-256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"steelyard/" + purpose).derive(token_key)
