# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
"""Stages that look at rows one by one."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.datasets.files import ingest, rows_in, spec_of, stages, write_jsonl

from steelyard.datasets.columns import Layout, table_of
from steelyard.datasets.normalization import Normalization
from steelyard.datasets.personal import address_holds, iban_holds, luhn_holds
from steelyard.datasets.store import report_key
from steelyard.datasets.texts import row_keys
from steelyard.specs.datasets import NormalizeBlock


def _texts(tmp_path: Path, texts: list[str], **blocks: Any) -> tuple[list[str], dict[str, tuple[int, int]]]:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    published = ingest(tmp_path / "store", path, spec=spec_of(**blocks))
    return sorted(row["text"] for row in rows_in(tmp_path / "store", published)), stages(published)


def test_texts_that_were_written_differently_become_equal(tmp_path: Path) -> None:
    texts = [
        "caf\u00e9 au lait",
        "cafe\u0301 au lait\r\n",
        "\ufeffcaf\u00e9 au lait  ",
        "caf\u00e9 au\x00 lait",
    ]
    kept, counts = _texts(tmp_path, texts)
    assert kept == ["caf\u00e9 au lait"]
    assert counts["exact_dedup"] == (4, 3)


def test_a_prompts_edges_stay_as_the_completion_is_joined_to_them(tmp_path: Path) -> None:
    rows = [{"prompt": "Q: why?\nA: ", "completion": " because\n"}]
    published = ingest(tmp_path / "store", write_jsonl(tmp_path / "a.jsonl", rows))
    assert rows_in(tmp_path / "store", published) == rows


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_normalising_twice_is_normalising_once(texts: list[str]) -> None:
    for layout in (Layout("text", False), Layout("prompt_completion", False)):
        rows = [dict.fromkeys(layout.texts, text) for text in texts]
        stage = Normalization(NormalizeBlock())
        once = stage.run(layout, table_of(layout, rows, [0] * len(rows), [1] * len(rows))).table
        twice = stage.run(layout, once).table
        assert row_keys(layout, once).to_list() == row_keys(layout, twice).to_list()


@given(
    st.lists(st.lists(st.text(st.sampled_from("a\x15\x1c\x1d\x1e\x1fb")), min_size=2, max_size=2), min_size=2)
)
def test_keys_are_equal_only_where_rows_are(pairs: list[list[str]]) -> None:
    layout = Layout("prompt_completion", False)
    rows = [{"prompt": one, "completion": two} for one, two in pairs]
    keys = row_keys(layout, table_of(layout, rows, [0] * len(rows), [1] * len(rows))).to_list()
    assert len(set(keys)) == len({json.dumps(pair) for pair in pairs})


def test_length_filters_count_characters(tmp_path: Path) -> None:
    kept, counts = _texts(
        tmp_path, ["ab", "abcd", "abcdefgh"], length={"enabled": True, "min_chars": 3, "max_chars": 6}
    )
    assert kept == ["abcd"]
    assert counts["length"] == (3, 2)


def test_quality_filters_drop_noise(tmp_path: Path) -> None:
    good = "The tide was out, and the boats lay on their sides in the mud of the harbour."
    noise = ["buy now\n" * 20, "0x4f 0x3a 93 11 77 -- 12", "aGVsbG8" * 30, "# # # ... a # ... b # #"]
    kept, counts = _texts(tmp_path, [good, *noise], quality={"enabled": True})
    assert kept == [good]
    assert counts["quality"] == (5, 4)


def test_language_filters_keep_what_is_asked_for(tmp_path: Path) -> None:
    english = "The tide was out, and the boats lay on their sides in the mud of the harbour."
    german = "Es war Ebbe, und die Boote lagen im Schlamm des Hafens auf der Seite und warteten."
    kept, counts = _texts(tmp_path, [english, german], language={"enabled": True, "keep": ["en"]})
    assert kept == [english]
    assert counts["language"] == (2, 1)


_PERSONAL = [
    ("Mail jane.doe@example.org now", "Mail [EMAIL] now"),
    ("Card 4111 1111 1111 1111 is it", "Card [CREDIT_CARD] is it"),
    ("Card 4111 1111 1111 1112 is none", None),
    ("Host 192.168.10.7 fell over", "Host [IP_ADDRESS] fell over"),
    ("Version 999.1.2.3 is out", None),
    ("Pay to DE89 3704 0044 0532 0130 00 today", "Pay to [IBAN] today"),
    ("My number is 078-05-1120 they say", "My number is [SSN] they say"),
    ("Call +1 (415) 555-2671 at noon", "Call [PHONE] at noon"),
    ("Ruf +49 30 901820 an, oder +33 6 12 34 56 78", "Ruf [PHONE] an, oder [PHONE]"),
    ("Ring +442079460958 or +44 (0) 20 7946 0958", "Ring [PHONE] or [PHONE]"),
    ("It is 1+23456789, up +12.5 percent", None),
    ("key AKIAIOSFODNN7EXAMPLE leaked", "key [SECRET] leaked"),
    ("Nothing to see on 2024-01-02 at 10.30", None),
]


def test_personal_data_is_masked_and_ordinary_text_left(tmp_path: Path) -> None:
    kept, _ = _texts(tmp_path, [text for text, _ in _PERSONAL], pii={"action": "mask"})
    assert kept == sorted(masked or text for text, masked in _PERSONAL)


def test_personal_data_is_dropped_or_only_reported(tmp_path: Path) -> None:
    texts = [text for text, _ in _PERSONAL]
    kept, counts = _texts(tmp_path, texts, pii={"action": "drop"})
    assert kept == sorted(text for text, masked in _PERSONAL if masked is None)
    assert counts["pii"] == (len(texts), 9)
    kept, counts = _texts(tmp_path, texts, pii={"action": "report"})
    assert kept == sorted(texts)
    assert counts["pii"] == (len(texts), 0)


def test_a_report_doesnt_show_what_was_dropped_for_being_personal(tmp_path: Path) -> None:
    rows = [{"text": text} for text, _ in _PERSONAL]
    for action, shown in (("mask", False), ("drop", False), ("report", True)):
        spec = spec_of(
            pii={"action": action}, length={"enabled": True, "min_chars": 500}, reading={"max_bad": 1.0}
        )
        path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"text": "x" * 600}])
        published = ingest(tmp_path / action, path, spec=spec)
        for form in ("json", "html"):
            report = (tmp_path / action / report_key(published.manifest.digest, form)).read_text()
            assert ("jane.doe@example.org" in report) is shown
            assert "under 500 characters" in report


def test_a_report_shows_no_half_of_what_was_cut(tmp_path: Path) -> None:
    text = "word " * 61 + "jane.doe@example.org and more of it " * 3
    spec = spec_of(pii={"action": "drop"}, reading={"max_bad": 1.0})
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text}, {"text": "", "of": text}, {"text": "whole"}])
    published = ingest(tmp_path / "store", path, spec=spec)
    report = (tmp_path / "store" / report_key(published.manifest.digest, "json")).read_text()
    assert ("jane" in report, "holds email" in report, "is empty" in report) == (False, True, True)


@pytest.mark.parametrize("number", ["4111111111111111", "5500 0000 0000 0004", "340000000000009"])
def test_luhn_holds_for_known_cards_and_fails_for_one_digit_off(number: str) -> None:
    assert luhn_holds(number)
    assert not luhn_holds(number[:-1] + str((int(number[-1]) + 1) % 10))


def test_other_check_digits() -> None:
    assert iban_holds("GB82 WEST 1234 5698 7654 32")
    assert not iban_holds("GB82 WEST 1234 5698 7654 33")
    assert address_holds("8.8.8.8")
    assert not address_holds("127.0.0.1")


def test_pairs_that_prefer_nothing_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Blue. "},
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."},
    ]
    published = ingest(tmp_path / "store", write_jsonl(tmp_path / "a.jsonl", rows))
    assert stages(published)["chosen_equals_rejected"] == (2, 1)
    assert published.manifest.rows_kept == 1


def test_rows_that_hold_evaluation_text_are_dropped(tmp_path: Path) -> None:
    question = "Which of the three rivers that meet below the old mill carries the most water in spring"
    rows = [
        {"prompt": f"Now tell me: {question.upper()}!", "completion": "The Wye."},
        {"prompt": "What is the capital of France, please?", "completion": "Paris."},
        {"prompt": "Which of the three rivers is the longest?", "completion": "The Severn."},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    sets = {"rivers": [question], "capitals": ["What is the capital of France", "ok"]}
    published = ingest(tmp_path / "store", path, evaluation_sets=sets)
    stage = next(stage for stage in published.manifest.stages if stage.name == "decontamination")
    assert stage.reasons == {"overlaps capitals": 1, "overlaps rivers": 1}
    assert [row["completion"] for row in rows_in(tmp_path / "store", published)] == ["The Severn."]
    assert set(published.manifest.evaluation_sets) == {"rivers", "capitals"}


def test_an_overlap_below_the_least_share_is_let_pass(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(60)]
    rows = [{"text": " ".join(words[:20])}, {"text": " ".join(words)}]
    spec = spec_of(decontamination={"min_overlap": 0.5})
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    published = ingest(tmp_path / "store", path, spec=spec, evaluation_sets={"long": [" ".join(words)]})
    assert rows_in(tmp_path / "store", published) == [rows[0]]


def test_polars_and_python_see_the_same_personal_data() -> None:
    from steelyard.datasets.personal import DETECTORS  # noqa: PLC0415 - its patterns are what is compared

    for detector in DETECTORS:
        texts = pl.Series([text for text, _ in _PERSONAL])
        assert texts.str.contains(detector.pattern).sum() >= 1, detector.kind
