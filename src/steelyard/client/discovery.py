"""Where the platform is, and who we are there: arguments, then the environment, then the home folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx

from steelyard.client.credentials import credentials_file, read_session
from steelyard.client.errors import ConnectionFailed, CredentialsUnreadable
from steelyard.kit.home import HOME_VARIABLE, admin_token_file, default_home, endpoint_file
from steelyard.kit.tls import TlsClient

URL_VARIABLE = "STEELYARD_API_URL"
TOKEN_VARIABLE = "STEELYARD_TOKEN"  # noqa: S105 - the name of a variable
CA_VARIABLE = "STEELYARD_CA_FILE"
CERT_VARIABLE = "STEELYARD_CERT_FILE"
KEY_VARIABLE = "STEELYARD_KEY_FILE"
_TLS_VARIABLES = {"ca_file": CA_VARIABLE, "cert_file": CERT_VARIABLE, "key_file": KEY_VARIABLE}
PROJECT_VARIABLE = "STEELYARD_PROJECT"
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and the token for it. The token is left out of the repr."""

    api_url: str
    token: str | None = field(default=None, repr=False)
    tls: TlsClient | None = None
    """Whom to trust and what to show, where the address is HTTPS with an authority of its own."""


def discover(
    api_url: str | None = None,
    token: str | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Endpoint:
    """Find the platform. Of tokens, the argument counts first, then the environment, then `steelyard login`.

    The local admin's token goes only to the address in the same home folder, never to another one that
    an argument or the environment names.

    Raises:
        ConnectionFailed: no address is known, or it isn't one.
        CredentialsUnreadable: the local token can't be read.
    """
    variables = os.environ if environment is None else environment
    folder = home or _home(variables)
    named_url = api_url or (None if home else variables.get(URL_VARIABLE))
    url = _clean(named_url) if named_url else _read_url(folder)
    secret = token or variables.get(TOKEN_VARIABLE) or None
    if secret is None:
        secret = read_session(credentials_file(variables), url)
    if secret is None and (named_url is None or url == _known_url(folder)):
        secret = _read_token(folder)
    return Endpoint(url, _check_token(secret), _tls(variables) or _known_tls(folder, url))


def project_from_environment(project: str | None = None) -> str:
    """Return `project`, or else `STEELYARD_PROJECT`, or else `default`."""
    return project or os.environ.get(PROJECT_VARIABLE) or DEFAULT_PROJECT


def _home(variables: Mapping[str, str]) -> Path:
    named = variables.get(HOME_VARIABLE)
    return Path(named).expanduser().absolute() if named else default_home()


def _read_url(home: Path) -> str:
    path = endpoint_file(home)
    try:
        parsed: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConnectionFailed(
            f"No platform has been started in {home}. Start one with `steelyard up`, or set {URL_VARIABLE} "
            f"(and {TOKEN_VARIABLE}) to use one elsewhere, or {HOME_VARIABLE} for another folder."
        ) from None
    except (OSError, ValueError) as cause:
        raise ConnectionFailed(
            f"{path} can't be read ({cause}); `steelyard up` writes it anew, and {URL_VARIABLE} replaces it."
        ) from None
    found = cast("dict[str, Any]", parsed).get("api_url") if isinstance(parsed, dict) else None
    if not isinstance(found, str):
        raise ConnectionFailed(f"{path} names no api_url; `steelyard up` writes it anew.")
    return _clean(found)


def _known_url(home: Path) -> str | None:
    try:
        return _read_url(home)
    except ConnectionFailed:
        return None


def _tls(variables: Mapping[str, str]) -> TlsClient | None:
    named = {field: variables.get(variable) for field, variable in _TLS_VARIABLES.items()}
    return TlsClient.model_validate(named) if any(named.values()) else None


def _known_tls(home: Path, url: str) -> TlsClient | None:
    """Return what the platform of this home says of itself, for its own address alone."""
    if not url.startswith("https:") or url != _known_url(home):
        return None
    try:
        return TlsClient.model_validate(json.loads(endpoint_file(home).read_bytes()).get("tls") or {})
    except (OSError, ValueError):
        return None


def _clean(api_url: str) -> str:
    try:
        url = httpx.URL(api_url.strip())
    except (httpx.InvalidURL, ValueError) as cause:
        raise ConnectionFailed(
            f"The platform's address isn't a URL ({cause}); it looks like http://127.0.0.1:8000."
        ) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConnectionFailed(f"{str(url)!r} isn't an http(s) URL; it looks like http://127.0.0.1:8000.")
    if url.userinfo:
        raise ConnectionFailed(f"The platform's address must hold no password; use {TOKEN_VARIABLE}.")
    return str(url).rstrip("/")


def _read_token(home: Path) -> str | None:
    path = admin_token_file(home)
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or "not text"
        raise CredentialsUnreadable(
            f"{path} can't be read ({reason}). Run as the user who started the platform, "
            f"or set {TOKEN_VARIABLE}."
        ) from None


def _check_token(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise CredentialsUnreadable(
            f"The token holds characters that no token has; check {TOKEN_VARIABLE} for quotes or line ends."
        )
    return token
