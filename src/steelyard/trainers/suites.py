"""The evaluation suites: which tokens are scored, and what the scores say."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.kit.canonical import canonical_json, digest_json
from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.states import Reason
from steelyard.trainers.rows import Row
from steelyard.trainers.scoring import Estimate, Sample, Scored, mean_loss, perplexity, picks, share
from steelyard.trainers.templates import has_marks
from steelyard.trainers.tokenizing import NO_LOSS, tokenize, tokenize_pairs

_OPTIONS = 4


@dataclass(frozen=True)
class Suite:
    """Samples to score, and how their scores become figures by name."""

    name: str
    samples: list[Sample]
    summarise: Callable[[Sequence[Scored]], dict[str, Estimate]]
    rows: int


def first_rows(rows: Sequence[Row], limit: int) -> list[Row]:
    """The first `limit` rows by content hash: the same ones whatever the order of the file."""
    return sorted(rows, key=digest_json)[:limit]


def heldout_suite(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Suite:
    """Loss on what training learns from: completions, assistants' turns, or all of a text."""
    marks = shape == "messages" and has_marks(tokenizer.chat_template)
    options = TrainingBlock(max_length=max_length, overlong="truncate", assistant_only_loss=marks)
    examples = tokenize(rows, shape, tokenizer, options)
    samples = [Sample(tuple(each.input_ids), tuple(each.labels)) for each in examples]
    return Suite("heldout", samples, _summarise_heldout, len(samples))


def choices_suite(
    rows: Sequence[Row], shape: DatasetFormat, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Suite:
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
    questions = [options_of(pair, completions) for pair in pairs]
    flat = [
        {"prompt": pair["prompt"], "completion": option}
        for pair, options in zip(pairs, questions, strict=True)
        for option in options
    ]
    tokenized = tokenize_pairs(flat, tokenizer)
    samples = [_completion_sample(each.input_ids, each.prompt_length, max_length) for each in tokenized]
    right = [options.index(pair["completion"]) for pair, options in zip(pairs, questions, strict=True)]
    return Suite("choices", samples, lambda scores: _summarise_choices(scores, right), len(pairs))


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


def _summarise_heldout(scores: Sequence[Scored]) -> dict[str, Estimate]:
    loss = mean_loss(scores)
    return {"loss": loss, "perplexity": perplexity(loss)}


def _summarise_choices(scores: Sequence[Scored], right: Sequence[int]) -> dict[str, Estimate]:
    questions = [scores[first : first + _OPTIONS] for first in range(0, len(scores), _OPTIONS)]
    found: dict[str, Estimate] = {}
    for name, normalised in (("accuracy", True), ("accuracy_sum", False)):
        hits = [
            picks(options, normalised=normalised) == place
            for options, place in zip(questions, right, strict=True)
        ]
        found[name] = share(hits)
    return found
