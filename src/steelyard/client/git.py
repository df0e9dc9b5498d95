"""Which commit a folder is at, and what was changed since: for the lineage of a script."""

import hashlib
import subprocess
from pathlib import Path

_TIMEOUT_SECONDS = 10.0


def describe_checkout(folder: Path) -> dict[str, str]:
    """Return `commit`, and `diff_digest` where tracked files differ from it; nothing outside of a repository.

    Reads and never writes; a repository that git refuses to look at counts as none.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    found = {"commit": commit.decode().strip()}
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD")
    if diff:
        found["diff_digest"] = f"sha256:{hashlib.sha256(diff).hexdigest()}"
    return found


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout if result.returncode == 0 else None
