"""Rows of preferences as token ids: prompts with the answers that were judged.

Ids are what TRL's own preparation gives for the same rows (a test compares them); lengths are dealt with as
in supervised fine-tuning, and faults are told by row.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.methods import Method
from steelyard.specs.run import DatasetFiles
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenSummary
from steelyard.trainers.lengths import judge_lengths, too_long
from steelyard.trainers.rows import Row, read_rows
from steelyard.trainers.tokenizing import tokenize_pairs

_ANSWERS: dict[DatasetFormat, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "unpaired_preference": ("completion",),
}


@dataclass(frozen=True)
class Judged:
    """A prompt and its answers as token ids. `row` counts from 0.

    Of a pair the first answer is the chosen one; of an unpaired preference `wanted` says whether its one
    answer is.
    """

    row: int
    prompt_ids: list[int]
    answers: tuple[list[int], ...]
    wanted: bool = True

    @property
    def length(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt_ids) + max(len(answer) for answer in self.answers)

    @property
    def sequences(self) -> list[list[int]]:
        """The prompt with each of its answers."""
        return [self.prompt_ids + answer for answer in self.answers]


@dataclass(frozen=True)
class Preferences:
    """What is trained on, and what is held out; the latter may be empty."""

    train: list[Judged]
    heldout: list[Judged]


def load_preferences(
    dataset: DatasetFiles, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock, method: Method
) -> Preferences:
    """Read and tokenize both splits.

    Raises:
        RunFailure: there is no row, one is too long or teaches nothing, or the template can't render it.
    """
    train = read_rows(dataset.train, dataset.format, "train", method)
    heldout: list[Row] = []
    if holds_rows(dataset.validation):
        heldout = read_rows(dataset.validation, dataset.format, "validation", method)
    return Preferences(
        tokenize_preferences(train, dataset.format, tokenizer, training, "train"),
        tokenize_preferences(heldout, dataset.format, tokenizer, training, "validation") if heldout else [],
    )


def tokenize_preferences(
    rows: Sequence[Row],
    shape: DatasetFormat,
    tokenizer: PreTrainedTokenizerBase,
    training: TrainingBlock,
    split: str,
) -> list[Judged]:
    """Tokenize rows, and deal with the overlong ones as `training.overlong` says.

    Raises:
        RunFailure: a row is too long or teaches nothing, none is left, or the template can't render one.
    """
    _require_meaning(rows, shape, split)
    require_template(rows, tokenizer)
    judged = list(_encode(rows, shape, tokenizer))
    kept = [fitted for each in judged if (fitted := _fit(each, training, split)) is not None]
    judge_lengths(_summary(judged, kept, training), training)
    return kept


def holds_rows(paths: Sequence[str]) -> bool:
    """Whether a split has rows: one without them may have a file without lines."""
    return any(_has_lines(Path(path)) for path in paths)


def require_template(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse conversations for which the tokenizer has no template.

    Raises:
        RunFailure: so it is.
    """
    template: Any = tokenizer.chat_template
    if isinstance(rows[0]["prompt"], list) and template is None:
        raise bad_config(
            Reason.NO_CHAT_TEMPLATE,
            "The dataset holds conversations, but the tokenizer has no chat template: set "
            "model.chat_template, use an instruct model, or a dataset of plain prompts and answers.",
            param="model.chat_template",
        )


def _has_lines(path: Path) -> bool:
    # One that isn't there is missed by whoever reads it, in words.
    if not path.exists():
        return True
    with path.open(encoding="utf-8") as file:
        return any(line.strip() for line in file)


def _require_meaning(rows: Sequence[Row], shape: DatasetFormat, split: str) -> None:
    for number, row in enumerate(rows, start=1):
        if shape == "preference" and row["chosen"] == row["rejected"]:
            raise _meaningless(number, split, "its chosen and its rejected answer are the same")
        if shape == "unpaired_preference" and not isinstance(row["label"], bool):
            raise _meaningless(number, split, "its label is neither true nor false")
        if isinstance(row["prompt"], list) != isinstance(rows[0]["prompt"], list):
            raise _meaningless(number, split, "not all rows are conversations, or none is")


def _meaningless(number: int, split: str, why: str) -> RunFailure:
    return bad_config(
        Reason.BAD_CONFIG,
        f"Row {number} of the {split} split can't be learned from: {why}. Take it out and ingest again.",
        param="dataset.ref",
    )


def _encode(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Judged]:
    by_answer = [
        tokenize_pairs([{"prompt": row["prompt"], "completion": row[name]} for row in rows], tokenizer)
        for name in _ANSWERS[shape]
    ]
    for index, pairs in enumerate(zip(*by_answer, strict=True)):
        # Both answers of a pair follow the same prompt, where a merge across its end made one shorter.
        start = min(pair.prompt_length for pair in pairs)
        answers = tuple(pair.input_ids[start:] for pair in pairs)
        wanted = bool(rows[index]["label"]) if shape == "unpaired_preference" else True
        yield Judged(index, pairs[0].input_ids[:start], answers, wanted)


def _fit(each: Judged, training: TrainingBlock, split: str) -> Judged | None:
    longest = training.max_length
    if each.length <= longest:
        return each
    if training.overlong == "error":
        raise too_long(each.row, each.length, longest, split)
    room = longest - len(each.prompt_ids)
    if training.overlong == "drop" or room <= 0:
        return None
    cut = tuple(answer[:room] for answer in each.answers)
    # A pair that differs only in what was cut off teaches nothing.
    return None if len(cut) > 1 and cut[0] == cut[1] else replace(each, answers=cut)


def _summary(judged: list[Judged], kept: list[Judged], training: TrainingBlock) -> TokenSummary:
    answers = sum(len(answer) for each in kept for answer in each.answers)
    return TokenSummary(
        rows_in=len(judged),
        rows_kept=len(kept),
        rows_overlong=sum(each.length > training.max_length for each in judged),
        longest=max(each.length for each in judged),
        tokens=answers + sum(len(each.prompt_ids) * len(each.answers) for each in kept),
        loss_tokens=answers,
        sequences=sum(len(each.answers) for each in kept),
    )
