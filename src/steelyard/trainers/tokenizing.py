"""From rows to token ids and labels, many rows at a call.

The result is what TRL's own preparation gives for the same rows (a contract test compares them), without
its row-by-row passes. `-100` in labels: no loss on this token.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.states import Reason
from steelyard.trainers.rows import Row
from steelyard.trainers.templates import has_marks

NO_LOSS = -100


@dataclass(frozen=True)
class Example:
    """One training example. `labels` runs parallel to `input_ids`; `loss_from` is where a completion
    starts (0 where all of it is learned)."""

    row: int
    input_ids: list[int]
    labels: list[int]


def tokenize(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> list[Example]:
    """Tokenize all rows and deal with the overlong ones as `training.overlong` says.

    Raises:
        RunFailure: a row is too long, no row is left, or the tokenizer lacks the chat template.
    """
    check_options(rows, shape, tokenizer, training)
    examples = list(_examples(rows, shape, tokenizer, training))
    kept = list(_fit(examples, training.max_length, training.overlong))
    if not kept:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"No row is left to learn from: all {len(rows)} are longer than training.max_length "
            f"{training.max_length}. Raise it.",
            param="training.max_length",
        )
    return kept


def check_options(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> None:
    """Refuse what the rows and the tokenizer can't give."""
    chat = is_chat(rows[0], shape)
    template: Any = tokenizer.chat_template
    if chat and template is None:
        raise bad_config(
            Reason.NO_CHAT_TEMPLATE,
            "The dataset holds conversations, but the tokenizer has no chat template: set "
            "model.chat_template, use an instruct model, or a dataset of prompt and completion.",
            param="model.chat_template",
        )
    if not training.assistant_only_loss:
        return
    if not chat:
        raise bad_config(
            Reason.BAD_CONFIG,
            "training.assistant_only_loss needs conversations; this dataset has none. Set it to false.",
            param="training.assistant_only_loss",
        )
    if not has_marks(template):
        raise bad_config(
            Reason.NO_CHAT_TEMPLATE,
            "training.assistant_only_loss needs {% generation %} marks in the chat template: set "
            "model.chat_template to one that has them, or assistant_only_loss to false.",
            param="model.chat_template",
        )


def is_chat(row: Row, shape: DatasetFormat) -> bool:
    """Whether the rows are conversations rather than plain text."""
    return shape == "messages" or (shape == "prompt_completion" and isinstance(row["prompt"], list))


def _examples(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> Iterator[Example]:
    if shape == "prompt_completion":
        pairs = tokenize_pairs(rows, tokenizer, assistant_masks=training.assistant_only_loss)
        only_completion = training.completion_only_loss is not False
        for index, pair in enumerate(pairs):
            start = pair.prompt_length if only_completion else 0
            yield Example(index, pair.input_ids, _labels(pair.input_ids, start, pair.assistant_mask))
        return
    if shape == "messages":
        encoded = _encode_chats([row["messages"] for row in rows], tokenizer, training.assistant_only_loss)
    else:
        encoded = _encode_texts([_with_end(row["text"], tokenizer) for row in rows], tokenizer)
    for index, (ids, mask) in enumerate(encoded):
        yield Example(index, ids, _labels(ids, 0, mask))


@dataclass(frozen=True)
class Pair:
    """A prompt and its completion as one sequence; the completion starts at `prompt_length`."""

    input_ids: list[int]
    prompt_length: int
    assistant_mask: list[int] | None = None


def tokenize_pairs(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, *, assistant_masks: bool = False
) -> list[Pair]:
    """Tokenize rows of `prompt` and `completion`, plain or conversational, as training sees them."""
    if isinstance(rows[0]["prompt"], list):
        prompts = _encode_chats([row["prompt"] for row in rows], tokenizer, masks=False, open_turn=True)
        whole = _encode_chats([row["prompt"] + row["completion"] for row in rows], tokenizer, assistant_masks)
    else:
        prompts = _encode_texts([row["prompt"] for row in rows], tokenizer)
        texts = [_with_end(row["prompt"] + row["completion"], tokenizer) for row in rows]
        whole = _encode_texts(texts, tokenizer)
    return [
        Pair(ids, _common_prefix(prompt_ids, ids), mask)
        for (prompt_ids, _), (ids, mask) in zip(prompts, whole, strict=True)
    ]


Encoded = list[tuple[list[int], list[int] | None]]


def _encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    ids: Any = tokenizer(texts, return_attention_mask=False)["input_ids"]
    return [(each, None) for each in ids]


def _encode_chats(
    chats: list[Any], tokenizer: PreTrainedTokenizerBase, masks: bool, *, open_turn: bool = False
) -> Encoded:
    encoded: Any = tokenizer.apply_chat_template(
        chats,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=open_turn,
        return_assistant_tokens_mask=masks,
    )
    found = encoded["assistant_masks"] if masks else [None] * len(chats)
    return list(zip(encoded["input_ids"], found, strict=True))


def _with_end(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    end = str(tokenizer.eos_token)
    return text if text.endswith(end) else text + end


def _labels(ids: list[int], start: int, mask: list[int] | None) -> list[int]:
    if mask is None:
        return [NO_LOSS] * start + ids[start:]
    return [token if place >= start and mask[place] else NO_LOSS for place, token in enumerate(ids)]


def _common_prefix(one: list[int], other: list[int]) -> int:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _fit(
    examples: list[Example], max_length: int, overlong: Literal["error", "truncate", "drop"]
) -> Iterator[Example]:
    for example in examples:
        length = len(example.input_ids)
        if length <= max_length:
            yield example
        elif overlong == "error":
            raise bad_config(
                Reason.SEQUENCE_TOO_LONG,
                f"Row {example.row + 1} of the train split has {length} tokens, more than "
                f"training.max_length {max_length}: raise it, or set training.overlong to truncate or drop.",
                param="training.max_length",
            )
        elif overlong == "truncate":
            cut = Example(example.row, example.input_ids[:max_length], example.labels[:max_length])
            if any(label != NO_LOSS for label in cut.labels):
                yield cut
