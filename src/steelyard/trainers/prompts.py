"""Prompts that a policy answers, taken from whatever rows there are."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.methods import Method
from steelyard.specs.run import DatasetFiles
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenSummary
from steelyard.trainers.lengths import judge_lengths, too_long
from steelyard.trainers.preferences import holds_rows, require_template
from steelyard.trainers.rows import Row, read_rows
from steelyard.trainers.tokenizing import tokenize_prompts


@dataclass(frozen=True)
class Prompt:
    """A prompt as the policy reads it, and as the reward model is shown it: text, or a list of messages."""

    ids: tuple[int, ...]
    source: Any

    def with_answer(self, text: str) -> Row:
        """Return the row that a reward model scores."""
        if isinstance(self.source, str):
            return {"prompt": self.source, "completion": text}
        return {"prompt": self.source, "completion": [{"role": "assistant", "content": text}]}


@dataclass(frozen=True)
class Prompts:
    """What is answered in training, and what is held out; the latter may be empty."""

    train: list[Prompt]
    heldout: list[Prompt]

    @property
    def measured(self) -> list[Prompt]:
        """What the finished policy is measured on: what is held out, or else what there is."""
        return self.heldout or self.train


def load_prompts(
    dataset: DatasetFiles, tokenizer: PreTrainedTokenizerBase, training: TrainingBlock, method: Method
) -> Prompts:
    """Read both splits, each prompt once. `training.max_length` bounds a prompt; its answer comes on top.

    Raises:
        RunFailure: there is no prompt, one is too long, or the chat template can't render one.
    """
    train = read_rows(dataset.train, dataset.format, "train", method)
    heldout: list[Row] = []
    if holds_rows(dataset.validation):
        heldout = read_rows(dataset.validation, dataset.format, "validation", method)
    return Prompts(
        _prompts(train, dataset.format, tokenizer, training, "train"),
        _prompts(heldout, dataset.format, tokenizer, training, "validation") if heldout else [],
    )


def _prompts(
    rows: Sequence[Row],
    shape: DatasetFormat,
    tokenizer: PreTrainedTokenizerBase,
    training: TrainingBlock,
    split: str,
) -> list[Prompt]:
    sources = [_source(row, shape, number, split) for number, row in enumerate(rows, start=1)]
    require_template([{"prompt": source} for source in sources], tokenizer)
    all_ids = tokenize_prompts(sources, tokenizer)
    kept = [
        Prompt(tuple(ids), source)
        for row, (ids, source) in enumerate(zip(all_ids, sources, strict=True))
        if _fits(row, len(ids), training, split)
    ]
    judge_lengths(_summary(all_ids, kept, training), training)
    return list(_once(kept))


def _source(row: Row, shape: DatasetFormat, number: int, split: str) -> Any:
    if shape != "messages":
        return row["prompt"]
    messages: list[Any] = row["messages"]
    ends_with_answer = bool(messages) and messages[-1].get("role") == "assistant"
    asked = messages[:-1] if ends_with_answer else messages
    if not asked:
        raise _no_prompt(number, split)
    return asked


def _no_prompt(number: int, split: str) -> RunFailure:
    return bad_config(
        Reason.BAD_CONFIG,
        f"Row {number} of the {split} split asks nothing: without its last answer no message is left. Take "
        "it out and ingest again.",
        param="dataset.ref",
    )


def _fits(row: int, length: int, training: TrainingBlock, split: str) -> bool:
    if length <= training.max_length:
        return True
    if training.overlong == "error":
        raise too_long(row, length, training.max_length, split)
    # A prompt that is cut asks something else, so it is left out whichever way.
    return False


def _summary(all_ids: list[list[int]], kept: list[Prompt], training: TrainingBlock) -> TokenSummary:
    tokens = sum(len(prompt.ids) for prompt in kept)
    return TokenSummary(
        rows_in=len(all_ids),
        rows_kept=len(kept),
        rows_overlong=sum(len(ids) > training.max_length for ids in all_ids),
        longest=max(len(ids) for ids in all_ids),
        tokens=tokens,
        loss_tokens=tokens,
        sequences=len(kept),
    )


def _once(prompts: Iterable[Prompt]) -> Iterable[Prompt]:
    seen: set[tuple[int, ...]] = set()
    for prompt in prompts:
        if prompt.ids not in seen:
            seen.add(prompt.ids)
            yield prompt
