"""The endings by which a file is known to be data."""

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt")
_PACKED = ("", ".gz", ".gzip", ".zst", ".zstd")
ENDINGS = tuple(
    sorted((suffix + packed for suffix in DATA_SUFFIXES for packed in _PACKED), key=len, reverse=True)
)


def ending_of(name: str) -> str | None:
    """Return the ending of a name, compression included, or None where it isn't one of data."""
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), None)
