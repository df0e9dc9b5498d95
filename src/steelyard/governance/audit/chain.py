"""The hash chain: each row's link fixes the row and every row before it, in their order.

`link(n) = SHA-256(0x02 || link(n-1) || leaf hash of row n)`, and the link before the first is 32 zero bytes.
The first byte keeps links apart from the leaves (0x00) and nodes (0x01) of RFC 6962. Pure.
"""

import hashlib
from collections.abc import Iterable

ORIGIN = bytes(32)
_LINK = b"\x02"


def link(previous: bytes, leaf: bytes) -> bytes:
    """Return the link of a row, from the link before it and the row's leaf hash."""
    return hashlib.sha256(_LINK + previous + leaf).digest()


def extend(head: bytes, leaves: Iterable[bytes]) -> list[bytes]:
    """Return the links of rows that follow the one whose link is `head`."""
    links: list[bytes] = []
    for leaf in leaves:
        head = link(head, leaf)
        links.append(head)
    return links
