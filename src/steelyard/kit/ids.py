"""Identifiers that sort by time of creation.

An id is a lower-case prefix that names the kind of thing, an underscore, and 26 characters of
Crockford base 32: 48 bits of Unix milliseconds, then 80 random bits (the ULID layout). Lists are
paged by id alone, because the order of ids is the order of creation.
"""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26


def new_id(prefix: str) -> str:
    """Return a fresh id such as `job_06dq...`. Ids of one millisecond have no order among themselves."""
    value = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_{_encode(value)}"


def new_token(prefix: str) -> str:
    """Return a bearer secret with 256 bits of entropy. Store only its sha256; show it once."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def _encode(value: int) -> str:
    digits: list[str] = []
    for _ in range(_LENGTH):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))
