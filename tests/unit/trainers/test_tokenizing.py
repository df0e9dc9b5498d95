"""Our rows become what TRL makes of them, and rows that don't fit are dealt with as asked."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tests.run_factory import CHATS, PAIRS, TEXTS
from transformers import AutoModelForCausalLM
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from steelyard.runtime.failures import RunFailure
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.states import Reason
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.templates import chatml_with
from steelyard.trainers.tokenizing import NO_LOSS, tokenize

_CHAT_PAIRS = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in CHATS[:6]]
_TWO_TURNS = [{"messages": CHATS[0]["messages"] + CHATS[1]["messages"]}]


def _prepared_by_trl(
    rows: list[dict[str, Any]], training: TrainingBlock, tiny: Path, tokenizer: Any, tmp_path: Path
) -> list[tuple[list[int], list[int]]]:
    quieten_libraries()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=SFTConfig(
            output_dir=str(tmp_path),
            max_length=training.max_length,
            assistant_only_loss=training.assistant_only_loss,
            completion_only_loss=training.completion_only_loss,
            use_cpu=True,
            bf16=False,
            report_to="none",
            activation_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    prepared: Any = trainer.train_dataset
    return [(row["input_ids"], row["labels"]) for row in prepared]


class TestLikeTrl:
    @pytest.mark.parametrize(
        ("shape", "rows", "options"),
        [
            ("prompt_completion", PAIRS[:6], {}),
            ("prompt_completion", PAIRS[:6], {"completion_only_loss": False}),
            ("prompt_completion", _CHAT_PAIRS, {}),
            ("prompt_completion", _CHAT_PAIRS, {"assistant_only_loss": True}),
            ("messages", CHATS[:6], {}),
            ("messages", _TWO_TURNS, {"assistant_only_loss": True}),
            ("text", TEXTS[:6], {}),
            ("text", TEXTS[:6], {"max_length": 10, "overlong": "truncate"}),
            ("prompt_completion", PAIRS[:6], {"max_length": 24, "overlong": "truncate"}),
        ],
    )
    def test_ids_and_labels_are_equal(
        self,
        shape: DatasetFormat,
        rows: list[dict[str, Any]],
        options: dict[str, Any],
        tiny: Path,
        tokenizer: Any,
        tmp_path: Path,
    ) -> None:
        training = TrainingBlock(**options)
        ours = [(each.input_ids, each.labels) for each in tokenize(rows, shape, tokenizer, training)]
        assert ours == _prepared_by_trl(rows, training, tiny, tokenizer, tmp_path)
        assert any(label != NO_LOSS for label in ours[0][1])


class TestOverlong:
    _ROWS = [*PAIRS[:2], {"prompt": "much ", "completion": "more " * 100}, PAIRS[2]]

    def test_error_names_the_row_and_its_length(self, tokenizer: Any) -> None:
        with pytest.raises(RunFailure, match=r"Row 3 of the train split has \d+ tokens") as caught:
            tokenize(self._ROWS, "prompt_completion", tokenizer, TrainingBlock(max_length=64))
        assert caught.value.reason is Reason.SEQUENCE_TOO_LONG
        assert caught.value.param == "training.max_length"

    def test_drop_leaves_it_out(self, tokenizer: Any) -> None:
        training = TrainingBlock(max_length=64, overlong="drop")
        assert [each.row for each in tokenize(self._ROWS, "prompt_completion", tokenizer, training)] == [
            0,
            1,
            3,
        ]

    def test_truncate_cuts_it(self, tokenizer: Any) -> None:
        training = TrainingBlock(max_length=64, overlong="truncate")
        cut = tokenize(self._ROWS, "prompt_completion", tokenizer, training)[2]
        assert len(cut.input_ids) == len(cut.labels) == 64

    def test_nothing_left_is_an_empty_dataset(self, tokenizer: Any) -> None:
        with pytest.raises(RunFailure) as caught:
            tokenize(PAIRS, "prompt_completion", tokenizer, TrainingBlock(max_length=8, overlong="drop"))
        assert caught.value.reason is Reason.DATASET_EMPTY


class TestTemplates:
    _SMOLLM = (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are kind<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )

    @pytest.mark.parametrize("open_turn", [True, False])
    @pytest.mark.parametrize(
        "chat",
        [CHATS[0]["messages"], [{"role": "system", "content": "Be brief."}, *_TWO_TURNS[0]["messages"]]],
    )
    def test_marks_change_nothing_of_the_text(
        self, chat: list[dict[str, str]], open_turn: bool, tokenizer: Any
    ) -> None:
        texts = [
            tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=open_turn, chat_template=template
            )
            for template in (self._SMOLLM, chatml_with("You are kind"))
        ]
        assert texts[0] == texts[1]

    def test_assistant_only_loss_needs_marks(self, tokenizer: Any) -> None:
        tokenizer.chat_template = self._SMOLLM
        with pytest.raises(RunFailure, match="generation") as caught:
            tokenize(CHATS, "messages", tokenizer, TrainingBlock(assistant_only_loss=True))
        assert caught.value.reason is Reason.NO_CHAT_TEMPLATE
