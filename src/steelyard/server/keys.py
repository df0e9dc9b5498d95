"""Keys for one purpose each, derived from those that the home keeps for tokens.

`token.key` holds them as `storage.encryption.read_keys` reads them, oldest first. A key's id ends with the
moment at which it was made, in Unix seconds, so that anybody who has the file knows since when the one before
it has signed nothing.
"""

import base64
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from steelyard.governance.identity import AttemptTokens, SessionTokens
from steelyard.governance.oidc.tickets import Tickets
from steelyard.rollouts.signatures import WebhookSecrets
from steelyard.runtime.files import write_atomically
from steelyard.server.home import HomeLayout
from steelyard.storage.encryption import add_key, read_keys

_KEY_BYTES = 32


class DerivedKeys:
    """Keys of one purpose, from a file that is read again when it has changed, so that a rotation needs no
    restart. Thread-safe.
    """

    def __init__(self, path: Path, purpose: bytes) -> None:
        self._path = path
        self._purpose = purpose
        self._read: tuple[tuple[int, int], dict[str, bytes]] | None = None

    def keys(self) -> dict[str, bytes]:
        """As `governance.identity.SigningKeys.keys`."""
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        known = self._read
        if known is None or known[0] != stamp:
            derived = {key_id: _derive(key, self._purpose) for key_id, key in read_keys(self._path).items()}
            known = self._read = (stamp, derived)
        return known[1]


def attempt_tokens(layout: HomeLayout) -> AttemptTokens:
    """Return what signs and checks the tokens of training processes."""
    return AttemptTokens(DerivedKeys(layout.token_key, b"attempt-tokens"))


def session_tokens(layout: HomeLayout) -> SessionTokens:
    """Return what signs and checks the tokens of browser sessions."""
    return SessionTokens(DerivedKeys(layout.token_key, b"session-tokens"))


def login_tickets(layout: HomeLayout) -> Tickets:
    """Return what seals the tickets of sign-ins that are under way."""
    return Tickets(DerivedKeys(layout.token_key, b"login-tickets"))


def webhook_secrets(layout: HomeLayout) -> WebhookSecrets:
    """Return what signs webhooks. Its key isn't rotated, because receivers keep the secrets made from it."""
    return WebhookSecrets(_webhook_key(layout))


def add_token_key(layout: HomeLayout, now: datetime) -> str:
    """Add a key that signs tokens from now on; return its id. One caller at a time."""
    if not layout.webhook_key.exists():
        encoded = base64.b64encode(_webhook_key(layout)) + b"\n"
        write_atomically(layout.webhook_key, encoded, 0o600)
    return add_key(layout.token_key, f"-{int(now.timestamp())}")


def replaced_at(layout: HomeLayout) -> dict[str, datetime]:
    """Return when each key but the newest signed its last token, oldest first; without those whose
    successor's id, written by hand, doesn't say.
    """
    ids = list(read_keys(layout.token_key))
    made = {key_id: int(moment) for key_id in ids if (moment := key_id.rpartition("-")[2]).isdecimal()}
    return {
        key_id: datetime.fromtimestamp(made[successor], UTC)
        for key_id, successor in pairwise(ids)
        if successor in made
    }


def _webhook_key(layout: HomeLayout) -> bytes:
    """Read the key that webhooks are signed under: the first token key gave it, before any was rotated."""
    if layout.webhook_key.exists():
        return base64.b64decode(layout.webhook_key.read_text())
    return _derive(next(iter(read_keys(layout.token_key).values())), b"webhooks")


def _derive(token_key: bytes, purpose: bytes) -> bytes:
    """Make a key for one purpose (HKDF with SHA-256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"steelyard/" + purpose).derive(
        token_key
    )
