"""Session tokens that `steelyard login` got, by address: a file of the user's own, mode 0600."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from steelyard.runtime.files import write_atomically

CREDENTIALS_VARIABLE = "STEELYARD_CREDENTIALS_FILE"


def credentials_file(variables: Mapping[str, str]) -> Path:
    """Return where they are kept: `$XDG_CONFIG_HOME/steelyard/credentials.json`, or as the variable says."""
    if named := variables.get(CREDENTIALS_VARIABLE):
        return Path(named).expanduser()
    base = variables.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "steelyard" / "credentials.json"


def read_session(path: Path, api_url: str) -> str | None:
    """Return the token for an address; None where there is none that still holds."""
    entry = _read(path).get(api_url)
    if not isinstance(entry, dict):
        return None
    found = cast("dict[str, Any]", entry)
    expires_at, token = found.get("expires_at"), found.get("token")
    fresh = isinstance(expires_at, int | float) and expires_at > time.time()
    return token if fresh and isinstance(token, str) else None


def store_session(path: Path, api_url: str, token: str, expires_at: float) -> None:
    """Keep a token, beside those for other addresses.

    Raises:
        OSError: the file can't be written.
    """
    _write(path, {**_read(path), api_url: {"token": token, "expires_at": expires_at}})


def forget_session(path: Path, api_url: str) -> bool:
    """Throw a token away. Returns whether there was one."""
    entries = _read(path)
    if api_url not in entries:
        return False
    _write(path, {url: entry for url, entry in entries.items() if url != api_url})
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        parsed: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


def _write(path: Path, entries: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, json.dumps(entries, indent=1).encode(), 0o600)
