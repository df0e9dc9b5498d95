"""The canonical bytes of a row, which are hashed. Every column is in them.

A leaf is canonical JSON (UTF-8, keys sorted, no spaces, no escapes beyond those that JSON demands) of one
object with a key for each column of `audit_log`:

- `id` and `transaction` are integers;
- all others are strings, or null;
- `at` is what PostgreSQL writes for the moment with `DateStyle = ISO` and `TimeZone = UTC`;
- `detail` is a string: the text of the `jsonb` value as PostgreSQL writes it, so that 1.0 and 1.00 differ.

The leaf's hash is that of RFC 6962: `SHA-256(0x00 || leaf)`. A column that is added to the table must be
added here, in rows of a new version: `v` tells which columns a leaf has.
"""

from collections.abc import Mapping

from steelyard.governance.audit.merkle import leaf_hash
from steelyard.kit.canonical import canonical_json

VERSION = 1
COLUMNS = (
    "id",
    "at",
    "actor",
    "verb",
    "object_kind",
    "object_id",
    "project_id",
    "request_id",
    "source",
    "before_digest",
    "after_digest",
    "detail",
    "outcome",
    "transaction",
)
INTEGERS = frozenset({"id", "transaction"})

LeafRow = Mapping[str, int | str | None]
"""A row's columns in the form that is hashed."""


def leaf_bytes(row: LeafRow) -> bytes:
    """Return the bytes of a leaf.

    Raises:
        KeyError: a column is missing.
    """
    return canonical_json({"v": VERSION} | {column: row[column] for column in COLUMNS})


def hash_row(row: LeafRow) -> bytes:
    """Return the leaf hash of a row."""
    return leaf_hash(leaf_bytes(row))
