"""The evaluation suites: which tokens are scored, and what the scores say."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.kit.canonical import canonical_json, digest_json
from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.states import Reason
from steelyard.trainers.rows import Row
from steelyard.trainers.scoring import Sample, Scored, picks
from steelyard.trainers.templates import has_marks
from steelyard.trainers.tokenizing import NO_LOSS, tokenize, tokenize_pairs

_OPTIONS = 4


@dataclass(frozen=True)
class Question:
    """The options of one question as sequences to score; `right` is the place of the right one."""

    samples: list[Sample]
    right: int


def first_rows(rows: Sequence[Row], limit: int) -> list[Row]:
    """The first `limit` rows by content hash: the same ones whatever the order of the file."""
    return sorted(rows, key=digest_json)[:limit]


def heldout_samples(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[int, Sample]]:
    """What training learns from, by row: completions, assistants' turns, or all of a text.

    A row of which nothing is left to score within `max_length` is passed over.
    """
    marks = shape == "messages" and has_marks(tokenizer.chat_template)
    options = TrainingBlock(max_length=max_length, overlong="truncate", assistant_only_loss=marks)
    examples = tokenize(rows, shape, tokenizer, options)
    return [(each.row, Sample(tuple(each.input_ids), tuple(each.labels))) for each in examples]


def choices_of(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Question]:
    """Each prompt with its own completion among three others, taken from other rows by content hash.

    Raises:
        RunFailure: the rows have no completions, or fewer than four different ones.
    """
    pairs = [_as_pair(row, shape) for row in rows]
    completions = list({canonical_json(pair["completion"]): pair["completion"] for pair in pairs}.values())
    if len(completions) < _OPTIONS:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"Suite choices needs {_OPTIONS} validation rows with different completions and found "
            f"{len(completions)}: add rows, or leave the suite out.",
            param="evaluation.suites",
        )
    options = [options_of(pair, completions) for pair in pairs]
    flat = [
        {"prompt": pair["prompt"], "completion": option}
        for pair, offered in zip(pairs, options, strict=True)
        for option in offered
    ]
    tokenized = tokenize_pairs(flat, tokenizer)
    samples = [_completion_sample(each.input_ids, each.prompt_length, max_length) for each in tokenized]
    return [
        Question(samples[at * _OPTIONS : (at + 1) * _OPTIONS], offered.index(pair["completion"]))
        for at, (pair, offered) in enumerate(zip(pairs, options, strict=True))
    ]


def picks_of(scores: Sequence[Scored]) -> dict[str, int]:
    """Return the option picked, by metric: by mean over tokens, and by sum."""
    return {
        "accuracy": picks(scores, normalised=True),
        "accuracy_sum": picks(scores, normalised=False),
    }


def options_of(pair: Row, completions: Sequence[Any]) -> list[Any]:
    """The row's own completion and three others, in an order that says nothing of which is right."""
    seed = canonical_json(pair)

    def rank(completion: Any) -> bytes:
        return hashlib.sha256(seed + canonical_json(completion)).digest()

    others = sorted((each for each in completions if each != pair["completion"]), key=rank)
    return sorted([pair["completion"], *others[: _OPTIONS - 1]], key=rank)


def _as_pair(row: Row, shape: DatasetFormat) -> Row:
    if shape == "prompt_completion":
        return {"prompt": row["prompt"], "completion": row["completion"]}
    if shape == "messages" and len(row["messages"]) > 1:
        return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    raise bad_config(
        Reason.BAD_CONFIG,
        "Suite choices needs rows with a prompt and a completion, or conversations: leave it out for text.",
        param="evaluation.suites",
    )


def _completion_sample(ids: list[int], prompt_length: int, max_length: int) -> Sample:
    cut = ids[:max_length]
    # A first token has nothing before it to be foretold from.
    start = max(prompt_length, 1)
    return Sample(tuple(cut), tuple([NO_LOSS] * min(start, len(cut)) + cut[start:]))
