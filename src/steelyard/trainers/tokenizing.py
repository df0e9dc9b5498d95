"""From rows to token ids and labels, many rows at a call.

The result is what TRL's own preparation gives for the same rows (a contract test compares them), without
its row-by-row passes. `-100` in labels: no loss on this token.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason
from steelyard.trainers.lengths import NO_LOSS, Example, Tally, judge_lengths
from steelyard.trainers.rows import Row
from steelyard.trainers.templates import has_marks

TEMPLATE_FAULTS = (TemplateError, TypeError, KeyError, AttributeError, IndexError, ValueError)
"""What a chat template that can't render a row raises."""


def tokenize(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> list[Example]:
    """Tokenize all rows and deal with the overlong ones as `training.overlong` says.

    Raises:
        RunFailure: a row is too long, no row is left, or the tokenizer lacks the chat template.
    """
    check_options(rows, shape, tokenizer, training)
    tally = Tally(training)
    kept = [each for one in encode(rows, shape, tokenizer, training) if (each := tally.fit(one)) is not None]
    judge_lengths(tally.summary(), training)
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


def encode(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock
) -> Iterator[Example]:
    """Tokenize rows, however long they get. `Example.row` counts from 0 at the first of `rows`.

    Raises:
        RunFailure: the chat template can't render a row.
    """
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


class TemplateFailure(RunFailure):
    """A chat template that raises. `row` counts from 0 within the rows given, None where it isn't known."""

    def __init__(self, row: int | None, told: str, *, before: int = 0) -> None:
        self.row, self.told = row, told
        which = "rows" if row is None else f"row {before + row + 1} of the train split"
        super().__init__(
            Reason.BAD_CHAT_TEMPLATE,
            ExitCode.BAD_CONFIG,
            f"The chat template fails on {which}: {told}. Mend the row's roles, or set "
            "model.chat_template to one that takes them.",
            param="model.chat_template",
        )


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


def tokenize_prompts(prompts: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokenize prompts that are to be answered: plain texts, or lists of messages, whose turn is opened.

    Raises:
        RunFailure: the chat template can't render one.
    """
    if isinstance(prompts[0], list):
        return [ids for ids, _ in _encode_chats(list(prompts), tokenizer, masks=False, open_turn=True)]
    return [ids for ids, _ in _encode_texts(list(prompts), tokenizer)]


Encoded = list[tuple[list[int], list[int] | None]]


def _encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Encoded:
    ids: Any = tokenizer(texts, return_attention_mask=False)["input_ids"]
    return [(each, None) for each in ids]


def _encode_chats(
    chats: list[Any], tokenizer: PreTrainedTokenizerBase, masks: bool, *, open_turn: bool = False
) -> Encoded:
    def render(some: list[Any]) -> Any:
        return tokenizer.apply_chat_template(
            some,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=open_turn,
            return_assistant_tokens_mask=masks,
        )

    try:
        encoded = render(chats)
    except TEMPLATE_FAULTS as error:
        raise _unrendered(chats, render, error) from error
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


def _unrendered(chats: list[Any], render: Callable[[list[Any]], Any], error: Exception) -> RunFailure:
    """Find the first row that the template refuses, and what it says of it."""
    row = None
    for place, chat in enumerate(chats):
        try:
            render([chat])
        except TEMPLATE_FAULTS as found:
            row, error = place, found
            break
    return TemplateFailure(row, f"{type(error).__name__}: {error}")
