"""Where an API user's ingest may read from, beside uploads: prefixes of URIs that the operator allows. Pure.

There is no scheme for hosts, files or addresses, so no URI can be made to reach them; an object store's
endpoint and credentials come from the platform's environment, so each bucket has to be allowed by name.
"""

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote, urlsplit

Rule = Callable[[str, Sequence[str]], str | None]
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_SCHEMES = ("s3", "hf")


def refuse_uri(uri: str, allowed: Sequence[str]) -> str | None:
    """Return why a URI may not be read, or None where it may.

    Args:
        allowed: prefixes such as `hf://datasets/` or `s3://team-bucket/raw/`.
    """
    return next((reason for rule in _RULES if (reason := rule(uri, allowed)) is not None), None)


def _is_plain(uri: str, _allowed: Sequence[str]) -> str | None:
    if _PRINTABLE.fullmatch(uri) and "\\" not in uri:
        return None
    return "a URI has no spaces, backslashes or control characters; write them as %20"


def _has_known_scheme(uri: str, _allowed: Sequence[str]) -> str | None:
    scheme = uri.partition("://")[0]
    if scheme in _SCHEMES:
        return None
    return f"{scheme!r} isn't one of s3 and hf; upload the file instead"


def _names_no_extras(uri: str, _allowed: Sequence[str]) -> str | None:
    parts = urlsplit(uri)
    if parts.query or parts.fragment or "@" in parts.netloc or ":" in parts.netloc:
        return "a URI holds no credentials, port, query or fragment; those are the platform's to set"
    return None


def _stays_below(uri: str, _allowed: Sequence[str]) -> str | None:
    segments = unquote(urlsplit(uri).path).split("/")
    if any(segment in (".", "..") for segment in segments):
        return "a URI has no '.' or '..' in its path"
    return None


def _is_allowed(uri: str, allowed: Sequence[str]) -> str | None:
    if any(_is_below(uri, prefix) for prefix in allowed):
        return None
    listed = ", ".join(allowed) or "nowhere"
    return f"this platform reads from {listed}; the operator can allow more with STEELYARD_DATA_SOURCES"


def _is_below(uri: str, prefix: str) -> bool:
    """Whether a URI is the prefix or goes on after a slash: `s3://team` allows no `s3://team-secrets`."""
    return uri == prefix or uri.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


_RULES: tuple[Rule, ...] = (_is_plain, _has_known_scheme, _names_no_extras, _stays_below, _is_allowed)
