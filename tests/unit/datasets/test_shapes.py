# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Every shape is detected, and comes out in TRL's columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.datasets.files import Row, ingest, rows_in, sorted_rows, spec_of, write_jsonl

from steelyard.datasets.inspection import verify_version
from steelyard.datasets.store import report_key
from steelyard.kit.errors import InvalidDataset

_ASK = {"role": "user", "content": "What is two and two?"}
_ANSWER = {"role": "assistant", "content": "Four."}
_OTHER = {"role": "assistant", "content": "Five."}
_CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}

_SHAPES: list[tuple[str, Row, Row]] = [
    ("messages", {"messages": [_ASK, _ANSWER]}, {"messages": [_ASK, _ANSWER]}),
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                _ASK,
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                _ANSWER,
            ],
            "tools": [{"type": "function", "function": {"name": "add"}}],
        },
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                _ASK,
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                _ANSWER,
            ],
            "tools": [{"type": "function", "function": {"name": "add"}}],
        },
    ),
    (
        "messages",
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": "What is two and two?"},
                {"from": "gpt", "value": "Four."},
            ],
        },
        {"messages": [{"role": "system", "content": "Be brief."}, _ASK, _ANSWER]},
    ),
    (
        "prompt_completion",
        {"instruction": "Add.", "input": "2 and 2", "output": "4"},
        {"prompt": "Add.\n\n2 and 2", "completion": "4"},
    ),
    (
        "prompt_completion",
        {"instruction": "Add.", "input": "", "output": "4"},
        {"prompt": "Add.", "completion": "4"},
    ),
    ("prompt_completion", {"prompt": "2+2=", "completion": " 4"}, {"prompt": "2+2=", "completion": " 4"}),
    (
        "prompt_completion",
        {"prompt": [_ASK], "completion": [_ANSWER]},
        {"prompt": [_ASK], "completion": [_ANSWER]},
    ),
    ("text", {"text": "Some words."}, {"text": "Some words."}),
    (
        "preference",
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."},
        {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."},
    ),
    (
        "preference",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
    ),
    (
        "preference",
        {"prompt": [_ASK], "chosen": [_ANSWER], "rejected": [_OTHER]},
        {"prompt": [_ASK], "chosen": [_ANSWER], "rejected": [_OTHER]},
    ),
    (
        "preference",
        {"chosen": [_ASK, _ANSWER], "rejected": [_ASK, _OTHER]},
        {"prompt": [_ASK], "chosen": [_ANSWER], "rejected": [_OTHER]},
    ),
    (
        "preference",
        {"input": {"messages": [_ASK]}, "preferred_output": [_ANSWER], "non_preferred_output": [_OTHER]},
        {"prompt": [_ASK], "chosen": [_ANSWER], "rejected": [_OTHER]},
    ),
    (
        "unpaired_preference",
        {"prompt": "Sky?", "completion": "Blue.", "label": True},
        {"prompt": "Sky?", "completion": "Blue.", "label": True},
    ),
]


@pytest.mark.parametrize(("format_", "given", "canonical"), _SHAPES)
def test_a_shape_is_detected_and_becomes_canonical(
    tmp_path: Path, format_: str, given: Row, canonical: Row
) -> None:
    published = ingest(tmp_path / "store", write_jsonl(tmp_path / "a.jsonl", [given]))
    assert published.manifest.format == format_
    assert rows_in(tmp_path / "store", published) == [canonical]


_FAULTS: list[tuple[Row, str, str]] = [
    ({"messages": [_ANSWER, _ASK]}, "messages[0].role", "begins the conversation"),
    ({"messages": [_ASK, _ASK, _ANSWER]}, "messages[1].role", "'user' comes after 'user'"),
    ({"messages": [_ASK]}, "messages[0].role", "the last message is from 'user'"),
    ({"messages": [_ASK, {"role": "robot", "content": "x"}]}, "messages[1].role", "unknown role 'robot'"),
    ({"messages": [_ASK, {"role": "assistant"}]}, "messages[1].content", "is missing"),
    ({"messages": [_ASK, {"role": "assistant", "content": 4}]}, "messages[1].content", "is a number"),
    ({"messages": [_ASK, {"role": "assistant", "content": "  "}]}, "messages[1].content", "is empty"),
    ({"messages": "hello"}, "messages", "must be a list of messages"),
    ({"messages": []}, "messages", "is empty"),
    ({"messages": [7]}, "messages[0]", "must be an object"),
    (
        {"messages": [_ASK, {"role": "assistant", "tool_calls": [_CALL]}, _ANSWER]},
        "messages[2].role",
        "expected 'tool'",
    ),
    (
        {"messages": [_ASK, {"role": "assistant", "tool_calls": [{"function": {}}]}]},
        "messages[1].tool_calls[0].function.name",
        "is null",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, _ANSWER]},
        "messages[0].content[0]",
        "only parts of type 'text'",
    ),
    ({"prompt": "x", "completion": ""}, "completion", "is empty"),
    ({"prompt": None, "completion": "y"}, "prompt", "is null"),
    ({"prompt": "Sky?", "completion": "Blue.", "label": "maybe"}, "label", "must be true or false"),
    ({"chosen": "abc", "rejected": "xyz"}, "chosen", "could be the prompt"),
]


@pytest.mark.parametrize(("row", "field", "message"), _FAULTS)
def test_a_fault_is_told_by_line_and_field(tmp_path: Path, row: Row, field: str, message: str) -> None:
    with pytest.raises(InvalidDataset) as caught:
        ingest(tmp_path / "store", write_jsonl(tmp_path / "a.jsonl", [row]))
    assert f"a.jsonl:1: {field}: " in caught.value.message
    assert message in caught.value.message


def test_mixed_shapes_in_one_file_are_refused_with_the_line(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": f"number {i}"} for i in range(200)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"prompt": "x", "completion": "y"}])
    with pytest.raises(InvalidDataset, match=r"a\.jsonl:201: the row is prompt_completion, but .* are text"):
        ingest(tmp_path / "store", path)


def test_mixed_shapes_over_files_are_refused_with_both_places(tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    two = write_jsonl(tmp_path / "b.jsonl", [{"prompt": [_ASK], "completion": [_ANSWER]}])
    with pytest.raises(InvalidDataset, match=r"b\.jsonl:1 is prompt_completion .*a\.jsonl:1 is text"):
        ingest(tmp_path / "store", one, two)


def test_a_column_map_gives_columns_the_names_that_a_shape_needs(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Sky?", "reply": "Blue.", "id": 7}])
    spec = spec_of(column_map={"question": "prompt", "reply": "completion"})
    published = ingest(tmp_path / "store", path, spec=spec)
    assert rows_in(tmp_path / "store", published) == [{"prompt": "Sky?", "completion": "Blue."}]


def test_a_given_format_is_held_to(tmp_path: Path) -> None:
    row: dict[str, Any] = {"text": "both", "prompt": "x", "completion": "y"}
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    published = ingest(tmp_path / "store", path, spec=spec_of(format="text"))
    assert rows_in(tmp_path / "store", published) == [{"text": "both"}]


def test_unknown_columns_are_answered_with_the_known_shapes(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "x"}])
    with pytest.raises(InvalidDataset, match=r"a\.jsonl:1: can't tell the shape .*question.*alpaca"):
        ingest(tmp_path / "store", path)


def test_a_format_that_doesnt_fit_is_told_once_with_the_shape_that_does(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {number}"} for number in range(9)])
    with pytest.raises(InvalidDataset) as caught:
        ingest(tmp_path / "store", path, spec=spec_of(format="alpaca"))
    assert caught.value.message.splitlines() == [
        f"{path}:1: instruction, output: is missing, and alpaca needs it; the row looks like text",
        "... and 8 more rows",
    ]


def test_a_column_map_that_names_no_column_is_refused_with_the_columns(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Sky?", "reply": "Blue."}])
    with pytest.raises(
        InvalidDataset, match=r"names 'questoin', which no row .* are question, reply"
    ) as caught:
        ingest(tmp_path / "store", path, spec=spec_of(column_map={"questoin": "prompt"}))
    assert caught.value.param == "column_map"


def test_faults_of_the_first_file_are_not_taken_for_all(tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / name, [{"text": "x"}, {"text": ""}]) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(InvalidDataset, match="1 of 2 rows read so far break"):
        ingest(tmp_path / "store", *paths)
    with pytest.raises(InvalidDataset, match="2 of 4 rows break"):
        ingest(tmp_path / "store", *paths, spec=spec_of(reading={"max_bad": 0.1}))


def test_columns_that_the_shape_doesnt_know_are_told(tmp_path: Path) -> None:
    store, more = tmp_path / "store", {"system": "Be brief.", "meta": {"id": 1}}
    plain = [{"frage": f"what is {i}?", "completion": f"{i}"} for i in range(5)]
    mapped = spec_of(column_map={"frage": "prompt"})
    rows = [plain[0], *({**row, **more} for row in plain[1:3]), {**plain[3], "prompt": "replaced"}, plain[4]]
    published = ingest(store, write_jsonl(tmp_path / "a.jsonl", rows), spec=mapped)
    assert published.view().left_out == {"meta": 2, "prompt": 1, "system": 2}
    bare = ingest(tmp_path / "other", write_jsonl(tmp_path / "b.jsonl", plain), spec=mapped)
    assert (bare.view().left_out, bare.manifest.digest) == ({}, published.manifest.digest)
    assert verify_version(published.manifest, store_root=store) == []


def test_fields_of_messages_that_nothing_reads_are_told(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"messages": [_ASK, {**_ANSWER, "weight": 0, "name": "bot"}]},
        {"messages": [_ASK, _OTHER]},
    ]
    published = ingest(tmp_path / "store", write_jsonl(tmp_path / "a.jsonl", rows))
    assert published.view().left_out == {"messages[].weight": 1}
    turns = [{"from": "human", "value": "Sky?"}, {"from": "gpt", "value": "Blue."}]
    path = write_jsonl(tmp_path / "b.jsonl", [{"id": "1", "conversations": turns}])
    assert ingest(tmp_path / "other", path).view().left_out == {"id": 1}


def test_nulls_that_a_parquet_column_makes_up_are_in_no_row(tmp_path: Path) -> None:
    """A struct has the fields of all rows, so a call of one function seems to have the other's arguments."""
    rows: list[Row] = []
    for name, key in (("add", "a"), ("find", "query")):
        call = {"type": "function", "function": {"name": name, "arguments": {key: "x"}}}
        tool = {
            "type": "function",
            "function": {"name": name, "parameters": {"properties": {key: {"type": "s"}}}},
        }
        asked = {"role": "assistant", "content": None, "tool_calls": [call]}
        told = {"role": "tool", "content": "4"}
        rows.append({"messages": [_ASK, asked, told, _ANSWER], "tools": [tool]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    published = ingest(tmp_path / "store", tmp_path / "a.parquet")
    assert sorted_rows(rows_in(tmp_path / "store", published)) == sorted_rows(rows)


def test_some_bad_rows_are_dropped_where_the_spec_allows_them(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": f"row {i}"} for i in range(9)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, {"text": ""}])
    published = ingest(tmp_path / "store", path, spec=spec_of(reading={"max_bad": 0.1}))
    assert (published.manifest.rows_in, published.manifest.rows_kept) == (10, 9)
    report = json.loads((tmp_path / "store" / report_key(published.manifest.digest, "json")).read_text())
    assert report["stages"][0]["examples"] == [
        {"place": f"{path}:10", "reason": "text: is empty", "text": '{"text": ""}'}
    ]
    with pytest.raises(InvalidDataset, match="1 of 10 rows"):
        ingest(tmp_path / "store", path, spec=spec_of(reading={"max_bad": 0.09}))
