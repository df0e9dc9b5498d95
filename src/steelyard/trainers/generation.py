"""Answers sampled from a model.

Shapes: B prompts of a batch, P tokens of the longest prompt (the others padded on the left), A tokens of the
longest answer, T = P + A, V words.
"""
# ruff: noqa: N803, N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from steelyard.runtime.failures import bad_config
from steelyard.specs.states import Reason
from steelyard.trainers.scoring import keeps_logits


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: from the model's own distribution at `temperature`, nothing cut away."""

    max_tokens: int
    temperature: float
    pad_token_id: int
    end_token_id: int


@dataclass(frozen=True)
class Answers:
    """Prompts with their answers.

    Attributes:
        ids: (B, T), padded on both sides.
        mask: (B, T), 1 on tokens of prompts and answers, 0 on padding.
        answer_mask: (B, A), 1 on an answer's tokens, its end token included.
        ended: (B,), whether the answer came to its end within the length allowed.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    answer_mask: torch.Tensor
    ended: torch.Tensor

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.ids.shape[1] - self.answer_mask.shape[1]

    def answer_ids(self) -> list[list[int]]:
        """Return the answers without their padding."""
        answers_BA = self.ids[:, self.prompt_length :]
        return [ids[mask].tolist() for ids, mask in zip(answers_BA, self.answer_mask.bool(), strict=True)]


def sampling_for(tokenizer: PreTrainedTokenizerBase, max_tokens: int, temperature: float) -> Sampling:
    """Make the settings for a model with this tokenizer.

    Raises:
        RunFailure: it has no end token, so that no answer would ever end.
    """
    words: Any = tokenizer
    if words.eos_token_id is None:
        raise bad_config(
            Reason.BAD_CONFIG,
            "The tokenizer has no end token, so that no answer would end: use a model that has one.",
            param="model.name_or_path",
        )
    return Sampling(max_tokens, temperature, int(words.pad_token_id), int(words.eos_token_id))


@torch.no_grad()
def sample_answers(model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Answers:
    """Draw one answer to each prompt, by torch's global random numbers.

    `model` is put into evaluation mode for it and back.
    """
    longest = max(len(prompt) for prompt in prompts)
    padded = [[sampling.pad_token_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    marks = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    ids_BP = torch.tensor(padded, device=model.device)
    mask_BP = torch.tensor(marks, device=model.device)
    with _sampling_as(model, sampling) as config:
        ids_BT = model.generate(input_ids=ids_BP, attention_mask=mask_BP, generation_config=config)
    answer_mask_BA, ended_B = _mask_after_end(ids_BT[:, longest:], sampling.end_token_id)
    return Answers(ids_BT, torch.cat([mask_BP, answer_mask_BA], dim=1), answer_mask_BA, ended_B)


def answer_logits(model: Any, answers: Answers) -> torch.Tensor:
    """Return the logits (B, A, V) that a model gives the tokens of the answers, in float32."""
    width = answers.answer_mask.shape[1]
    kept = {"logits_to_keep": width + 1} if keeps_logits(model) else {}
    logits_BTV = model(
        input_ids=answers.ids,
        attention_mask=answers.mask,
        # Counted from a prompt's first token, padding apart.
        position_ids=(answers.mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        **kept,
    ).logits
    return logits_BTV[:, -width - 1 : -1].float()


def _mask_after_end(answers_BA: torch.Tensor, end_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    ends_BA = answers_BA == end_token_id
    # Tokens with an end before them are padding, even where padding is the end token itself.
    before_BA = ends_BA.long().cumsum(dim=1) - ends_BA.long()
    return (before_BA == 0).long(), ends_BA.any(dim=1)


@contextmanager
def _sampling_as(model: Any, sampling: Sampling) -> Generator[GenerationConfig]:
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=sampling.max_tokens,
        pad_token_id=sampling.pad_token_id,
        eos_token_id=sampling.end_token_id,
    )
    # `generate` fills what a configuration leaves out from the model's own: a penalty there would be applied.
    saved, was_training = model.generation_config, model.training
    model.generation_config = config
    model.eval()
    try:
        yield config
    finally:
        model.generation_config = saved
        model.train(was_training)
