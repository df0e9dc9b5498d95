"""Preferences that every machine has: whole answers before ones that break off.

`python -m steelyard.datasets.stdlib_preferences FILE` writes them as JSON Lines: questions about Python's
standard library, the docstring's sentence as the chosen answer, and the same sentence broken off halfway as
the rejected one. Small, but a real preference: whoever reads the prompts alone can't tell which is which.
"""

import hashlib
import json
import sys
from pathlib import Path

from steelyard.datasets.stdlib_questions import stdlib_questions

_LEAST_WORDS = 6


def stdlib_preferences(*, max_characters: int = 100, library: Path | None = None) -> list[dict[str, str]]:
    """Return rows of `prompt`, `chosen` and `rejected`; one interpreter always gives the same.

    Args:
        max_characters: longest answer.
        library: folder of the library's sources; unset: the running interpreter's.
    """
    rows = stdlib_questions(max_characters=max_characters, library=library)
    return [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": _broken_off(row["completion"])}
        for row in rows
        if len(row["completion"].split()) >= _LEAST_WORDS
    ]


def write_stdlib_preferences(path: Path, *, max_characters: int = 100, library: Path | None = None) -> int:
    """Write the rows as JSON Lines, in one move; return how many there are."""
    rows = stdlib_preferences(max_characters=max_characters, library=library)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    temporary.replace(path)
    return len(rows)


def _broken_off(answer: str) -> str:
    """Between a third and two thirds of the words, so that length alone doesn't tell."""
    words = answer.split()
    third = len(words) // 3
    kept = third + hashlib.sha256(answer.encode()).digest()[0] % (third + 1)
    return " " + " ".join(words[: max(1, kept)])


if __name__ == "__main__":
    print(write_stdlib_preferences(Path(sys.argv[1])))  # noqa: T201 - the command's answer
