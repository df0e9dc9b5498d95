"""The demo's rows: many, of one kind, the same each time, made without running what is read."""

import json
import sys
from pathlib import Path

import pytest

from steelyard.datasets.stdlib_questions import first_sentence, stdlib_questions, write_stdlib_questions

_JSON = Path(json.__file__).parent


class TestRows:
    def test_thousands_of_different_answers_within_bounds(self) -> None:
        rows = stdlib_questions()
        answers = [row["completion"].strip() for row in rows]
        assert len(rows) > 2000
        assert len({answer.casefold() for answer in answers}) == len(rows)
        assert all(20 <= len(answer) <= 160 for answer in answers)
        assert {
            "prompt": "What does Python's `json.dumps` do?",
            "completion": " Serialize ``obj`` to a JSON formatted ``str``.",
        } in rows

    def test_they_are_the_same_each_time(self) -> None:
        assert stdlib_questions(library=_JSON) == stdlib_questions(library=_JSON) != []

    def test_sources_are_read_and_never_run(self, tmp_path: Path) -> None:
        (tmp_path / "loud.py").write_text(
            "raise SystemExit\ndef speak():\n    '''Say something to whoever listens. Then stop.'''\n"
            "class Voice:\n    def rise(self):\n        '''Become louder by one step'''\n"
            "    def _hidden(self):\n        '''Nobody should ask about this one.'''\n"
        )
        (tmp_path / "broken.py").write_text("def (:\n")
        (tmp_path / "_private.py").write_text("def f():\n    '''A docstring of twenty characters.'''\n")
        assert stdlib_questions(library=tmp_path) == [
            {
                "prompt": "What does Python's `loud.speak` do?",
                "completion": " Say something to whoever listens.",
            },
            {
                "prompt": "What does Python's `loud.Voice.rise` do?",
                "completion": " Become louder by one step.",
            },
        ]
        assert "loud" not in sys.modules

    def test_the_file_is_json_lines(self, tmp_path: Path) -> None:
        count = write_stdlib_questions(tmp_path / "q.jsonl", library=_JSON)
        lines = (tmp_path / "q.jsonl").read_text().splitlines()
        assert count == len(lines) > 5
        assert set(json.loads(lines[0])) == {"prompt", "completion"}
        assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl"]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return x.", "Return x."),
        ("Return x.  Raise where\nit is not there.", "Return x."),
        ("Return e.g. this one, always", "Return e.g. this one, always."),
        ("A heading:\n\nmore", "A heading."),
        ("", ""),
    ],
)
def test_first_sentence(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence
