"""The example's preferences: real text, no pair prefers nothing, the same each time."""

import json
from pathlib import Path

from steelyard.datasets.stdlib_preferences import stdlib_preferences, write_stdlib_preferences

_JSON = Path(json.__file__).parent


def test_a_whole_answer_is_preferred_to_one_that_breaks_off() -> None:
    rows = stdlib_preferences()

    assert len(rows) > 1000
    assert all(row["chosen"].startswith(row["rejected"]) for row in rows)
    assert all(len(row["rejected"]) < len(row["chosen"]) <= 101 for row in rows)
    assert all(row["chosen"][-1] in ".!?" for row in rows)
    assert len({row["prompt"] for row in rows}) > 0.95 * len(rows)


def test_the_file_is_json_lines_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert write_stdlib_preferences(tmp_path / name, library=_JSON) > 2
    lines = (tmp_path / "a").read_text()

    assert lines == (tmp_path / "b").read_text()
    assert set(json.loads(lines.splitlines()[0])) == {"prompt", "chosen", "rejected"}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
