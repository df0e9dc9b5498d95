"""Data for trainings that take seconds."""

import json

from tests.e2e.platform import LivePlatform


def seed_sums(platform: LivePlatform) -> None:
    """Ingest `sums`: four hundred questions about small sums."""
    rows = [
        {"prompt": f"What is {left} plus {right}?", "completion": f" The sum is {left + right}."}
        for left in range(20)
        for right in range(20)
    ]
    path = platform.home / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    version = platform.json("data", "ingest", str(path), "--name", "sums")
    assert (version["name"], version["version"]) == ("sums", 1)
