"""TLS of a connection string, in libpq's words, for a driver that SQLAlchemy calls with keywords."""

import getpass
import ssl
from typing import Any, Literal

from sqlalchemy import URL

from steelyard.kit.errors import InvalidRequest

_TLS_NAMES = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def split_tls(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return the URL without its TLS parameters, and the driver's arguments that mean the same.

    `require` encrypts and checks nothing, unless `sslrootcert` is given: then it is `verify-ca`, as libpq has
    it (PostgreSQL 18, section 32.19).

    Raises:
        InvalidRequest: an unknown `sslmode`, or files that can't be read.
    """
    given = {name: str(url.query[name]) for name in _TLS_NAMES if name in url.query}
    mode = given.get("sslmode", "prefer")
    if mode not in _MODES:
        raise InvalidRequest(f"sslmode {mode!r} isn't one of {', '.join(_MODES)}", param="database_dsn")
    bare = url.difference_update_query(_TLS_NAMES)
    if not given:
        return bare, {}
    if mode in ("disable", "allow", "prefer") and "sslrootcert" not in given:
        return bare, {"ssl": mode}
    try:
        return bare, {"ssl": _context(mode, given)}
    except OSError as error:
        raise InvalidRequest(
            f"the certificates of the database's DSN can't be read: {error}", param="database_dsn"
        ) from error


def role_beside(url: URL, process: Literal["api", "worker"]) -> str:
    """Return the role that owns nothing and that a process takes on in place of the owner, who logs in.

    Migrations 0011 and 0021 made them.
    """
    return f"{url.username or getpass.getuser()}_{process}"


def _context(mode: str, given: dict[str, str]) -> ssl.SSLContext:
    authority = given.get("sslrootcert")
    context = ssl.create_default_context(cafile=None if authority == "system" else authority)
    context.check_hostname = mode == "verify-full"
    if mode == "require" and authority is None:
        context.verify_mode = ssl.CERT_NONE
    if "sslcert" in given:
        context.load_cert_chain(given["sslcert"], given.get("sslkey"))
    return context
