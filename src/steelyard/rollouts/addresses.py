"""Which addresses a webhook may be sent to. Pure.

Whoever may set a webhook makes this server send requests. So that it can't be turned against what only the
server reaches, the address is checked when it is set, and again each time, after the name was resolved; and
the request goes to the very address that was checked.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from steelyard.kit.errors import InvalidRequest

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class AddressPolicy:
    """What the installation's settings allow beyond the public internet over HTTPS."""

    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True)
class Target:
    """Where a webhook's URL leads, before its name is resolved."""

    host: str
    port: int


def read_target(url: str, policy: AddressPolicy) -> Target:
    """Check a URL as it is written.

    Raises:
        InvalidRequest: not HTTPS, a name and password in it, no host, or an address that is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"this is no URL: {error}", param="url") from error
    allowed = ("https", "http") if policy.allow_http else ("https",)
    if parts.scheme not in allowed:
        raise InvalidRequest(f"a webhook's URL begins with {allowed[0]}://", param="url")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise InvalidRequest("a webhook's URL has a host, and no name or password", param="url")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidRequest("a webhook's URL has no spaces", param="url")
    literal = _literal(parts.hostname)
    if literal is not None and (refusal := refuse_addresses([literal], policy)) is not None:
        raise InvalidRequest(refusal, param="url")
    return Target(parts.hostname, port or (443 if parts.scheme == "https" else 80))


def refuse_addresses(addresses: Iterable[str], policy: AddressPolicy) -> str | None:
    """Say why a name that leads to these addresses is not sent to, or return None.

    One bad address among good ones is enough, because nobody knows which of them will be tried.
    """
    found = list(addresses)
    if not found:
        return "the name of the webhook's host leads nowhere"
    if policy.allow_private:
        return None
    bad = [address for address in found if not _is_public(address)]
    if not bad:
        return None
    return (
        f"{bad[0]} is inside a private network; an installation may allow that by "
        "STEELYARD_WEBHOOK_ALLOW_PRIVATE=true"
    )


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or _embedded(parsed)
        if inner is not None:
            return _is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address inside one of NAT64 (RFC 6052)."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
