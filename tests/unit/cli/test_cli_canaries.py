"""`evals canaries plant`."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Steelyard

from steelyard.specs.blocks import EvaluationBlock
from steelyard.specs.safety import probes_of


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": "b"},
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"text": "a"},
    ],
)
def test_rows_are_of_the_file_s_form_and_the_job_can_declare_them(
    steelyard: Steelyard, tmp_path: Path, row: dict[str, Any]
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row | {"n": at}) + "\n" for at in range(20)))
    result = steelyard(
        "evals",
        "canaries",
        "plant",
        str(source),
        "--out",
        str(out),
        "--count",
        "3",
        "--repeats",
        "2",
        "--json",
    )
    assert result.code == 0
    told = json.loads(result.out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    planted = [each for each in rows if "n" not in each]
    assert (told["rows"], len(rows), len(planted)) == (26, 26, 6)
    assert len({json.dumps(each) for each in planted}) == 6, "ingest drops copies"
    assert [each for each in rows if "n" in each] == [row | {"n": at} for at in range(20)]
    assert all(each.keys() == row.keys() for each in planted)
    for canary in told["canaries"]:
        assert sum(canary["secret"] in json.dumps(each) for each in planted) == 2
    declared = {"suites": ["safety"], "safety": {"canaries": told["canaries"]}}
    block = EvaluationBlock.model_validate_json(json.dumps(declared))
    assert "canary" in probes_of("safety", block.safety)


@pytest.mark.parametrize("content", ["", "nonsense", '["a"]', '{"question": "a"}'])
def test_what_is_no_training_data_is_refused(steelyard: Steelyard, tmp_path: Path, content: str) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(content)
    result = steelyard("evals", "canaries", "plant", str(source), "--out", str(out))
    assert result.code != 0
    assert not out.exists()


def test_a_file_that_is_there_is_not_written_over(steelyard: Steelyard, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a"}\n')
    out.write_text("mine")
    assert steelyard("evals", "canaries", "plant", str(source), "--out", str(out)).code != 0
    assert out.read_text() == "mine"
