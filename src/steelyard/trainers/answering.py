"""From prompts to scored answers."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.trainers.generation import Answers, Sampling, sample_answers
from steelyard.trainers.prompts import Prompt
from steelyard.trainers.reward_model import Scorer
from steelyard.trainers.rows import Row


@dataclass(frozen=True)
class Scored:
    """Answers with the reward model's scores, in order."""

    answers: Answers
    scores: list[float]


def answer_and_score(
    model: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
    scorer: Scorer,
) -> Scored:
    """Answer each prompt once, by torch's global random numbers, and score the texts.

    Raises:
        RunFailure: the reward model can't read a prompt.
    """
    answers = sample_answers(model, [prompt.ids for prompt in prompts], sampling)
    return Scored(answers, scorer.score(as_rows(prompts, answers, tokenizer, scorer)))


def as_rows(
    prompts: Sequence[Prompt], answers: Answers, tokenizer: PreTrainedTokenizerBase, scorer: Scorer
) -> list[Row]:
    """Return what a reward model is shown: texts, so that its own tokenizer may be another one.

    A plain text that came to its end carries the end that the reward model has learned.
    """
    words: Any = tokenizer
    texts: list[str] = words.batch_decode(answers.answer_ids(), skip_special_tokens=True)
    rows: list[Row] = []
    for prompt, text, ended in zip(prompts, texts, answers.ended.tolist(), strict=True):
        closing = scorer.end_text if ended and isinstance(prompt.source, str) else ""
        rows.append(prompt.with_answer(text + closing))
    return rows
