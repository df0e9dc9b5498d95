"""The software that a job runs on, as digests: the platform's own code, and everything that is installed."""

import sys
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import steelyard
from steelyard.kit.canonical import digest_file, digest_json


@cache
def environment() -> dict[str, Any]:
    """Return the interpreter's version and those of all installed distributions."""
    found = {item.metadata["Name"].lower(): item.version for item in distributions()}
    return {"python": sys.version, "distributions": dict(sorted(found.items()))}


@cache
def environment_digest() -> str:
    """Return the digest of `environment()`."""
    return digest_json(environment())


@cache
def code_digest() -> str:
    """Return the digest of the platform's own source files, by path."""
    root = Path(steelyard.__file__).parent
    return digest_json(
        {str(path.relative_to(root)): digest_file(path) for path in sorted(root.rglob("*.py"))}
    )


@cache
def code_version() -> str:
    """Return the platform's version, as pip writes it."""
    return f"steelyard=={version('steelyard')}"
