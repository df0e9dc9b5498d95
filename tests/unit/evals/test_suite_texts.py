"""What no training row may share with a suite."""

import json

from steelyard.evals.suite_texts import texts_of_file

QUESTION = "which river of the old kingdom runs north before it meets the sea"
FORM = "choose the one answer that fits best of these four"


def _sample(question: str, *answers: str) -> dict[str, object]:
    return {"form": FORM, "question": question, "answers": list(answers)}


def test_a_sample_is_one_text_and_its_long_strings_stand_by_themselves() -> None:
    samples = [_sample(QUESTION, "the Ill", "the Aar"), _sample("how many are there", "two", "three")]
    for path, data in (
        ("a.jsonl", "\n".join(json.dumps(sample) for sample in samples)),
        ("a.json", json.dumps({"examples": samples})),
    ):
        texts = list(texts_of_file(path, data.encode()))
        assert texts == [
            f"{FORM}\n{QUESTION}\nthe Ill\nthe Aar",
            QUESTION,
            f"{FORM}\nhow many are there\ntwo\nthree",
        ]


def test_columns_of_a_table_stand_by_themselves_too() -> None:
    data = f"question,answer\n{QUESTION},the Ill\nhow many,two\n"
    assert list(texts_of_file("a.csv", data.encode())) == [f"{QUESTION}\nthe Ill", QUESTION, "how many\ntwo"]


def test_a_line_of_text_is_there_once() -> None:
    assert list(texts_of_file("a.txt", f"{QUESTION}\n\nanother\n".encode())) == [QUESTION, "another"]
