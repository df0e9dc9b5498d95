"""The key that signs checkpoints: made at first use, kept in a file of mode 0600."""

import os
import secrets
from pathlib import Path

from steelyard.governance.audit.notes import InvalidNote, Signer, Verifier
from steelyard.kit.errors import InvalidRequest, PermissionDenied, Unavailable
from steelyard.runtime.files import sync_directory

AUDIT_ORIGIN = "steelyard.internal/audit"


def load_signer(path: Path, origin: str = AUDIT_ORIGIN) -> Signer:
    """Return the key in `path`; make it, under a name that begins with `origin`, where there is none.

    Of two processes that make it at once, one wins and both use that one's key.

    Raises:
        PermissionDenied: others than its owner may read the file, or we may not.
        Unavailable: the file holds no key.
    """
    _make_key(path, origin)
    try:
        if path.stat().st_mode & 0o077:
            raise PermissionDenied(f"{path} can be read by others; `chmod 600` it, and ask who has the key")
        return Signer.parse(path.read_text())
    except InvalidNote as error:
        raise Unavailable(f"{path} holds no key for audit checkpoints ({error}); restore it") from error
    except OSError as error:
        raise PermissionDenied(f"{path} can't be read ({error.strerror}); run as its owner") from error


def load_verifier(path: Path) -> Verifier:
    """Return the public key in `path`.

    Raises:
        InvalidRequest: there is none.
    """
    try:
        return Verifier.parse(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{path} holds no public key ({error}); give the audit.pub that you kept by --public-key"
        ) from error


def _make_key(path: Path, origin: str) -> None:
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = Signer(f"{origin}/{secrets.token_hex(8)}", secrets.token_bytes(32))
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{signer.encode()}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    except FileExistsError:
        return
    finally:
        scratch.unlink()
    sync_directory(path.parent)
