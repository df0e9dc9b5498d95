# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from pathlib import Path
from typing import Any

import pytest
from tests.run_factory import write_rows

from steelyard.runtime.failures import RunFailure
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.run import DatasetFiles
from steelyard.specs.states import Reason
from steelyard.trainers.prompts import Prompts, load_prompts

_ASKED = {"role": "user", "content": "How much is it?"}
_ANSWER = {"role": "assistant", "content": "Four."}


def _load(
    folder: Path, tokenizer: Any, shape: DatasetFormat, rows: list[dict[str, Any]], **settings: Any
) -> Prompts:
    files = DatasetFiles(
        digest="d",
        format=shape,
        train=[write_rows(folder / "train.jsonl", rows)],
        validation=[write_rows(folder / "validation.jsonl", [])],
    )
    return load_prompts(files, tokenizer, TrainingBlock(max_steps=1, **settings), "ppo")


def test_the_last_answer_of_a_conversation_is_cut_off_and_the_turn_opened(
    tmp_path: Path, tokenizer: Any
) -> None:
    rows = [{"messages": [_ASKED, _ANSWER, _ASKED, _ANSWER]}, {"messages": [_ASKED]}]
    first, second = _load(tmp_path, tokenizer, "messages", rows).train
    assert first.source == [_ASKED, _ANSWER, _ASKED]
    assert second.source == [_ASKED]
    assert tokenizer.decode(second.ids).endswith("<|im_start|>assistant\n")


def test_a_prompt_of_several_pairs_is_answered_once(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "a", "chosen": f"b{number}", "rejected": "c"} for number in range(3)]
    found = _load(tmp_path, tokenizer, "preference", rows)
    assert [prompt.source for prompt in found.train] == ["a"]
    assert found.heldout == []
    assert found.measured == found.train


def test_what_a_reward_model_is_shown(tmp_path: Path, tokenizer: Any) -> None:
    plain = _load(tmp_path, tokenizer, "prompt_completion", [{"prompt": "a", "completion": "b"}]).train[0]
    assert plain.with_answer(" c") == {"prompt": "a", "completion": " c"}
    chat = _load(tmp_path, tokenizer, "messages", [{"messages": [_ASKED]}]).train[0]
    assert chat.with_answer("c")["completion"] == [{"role": "assistant", "content": "c"}]


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
def test_a_prompt_is_never_cut(tmp_path: Path, tokenizer: Any, overlong: str) -> None:
    rows = [{"prompt": text, "completion": "b"} for text in ("a", "word " * 50)]
    found = _load(tmp_path, tokenizer, "prompt_completion", rows, max_length=16, overlong=overlong)
    assert [prompt.source for prompt in found.train] == ["a"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"messages": [_ANSWER]}], Reason.BAD_CONFIG),
        ([{"messages": [_ASKED | {"content": "word " * 500}]}], Reason.SEQUENCE_TOO_LONG),
        ([], Reason.DATASET_EMPTY),
    ],
)
def test_refusals(tmp_path: Path, tokenizer: Any, rows: list[Any], reason: Reason) -> None:
    with pytest.raises(RunFailure) as refused:
        _load(tmp_path, tokenizer, "messages", rows)
    assert refused.value.reason is reason
