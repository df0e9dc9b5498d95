"""Who is asked: a model in memory, or one behind an api."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from steelyard.trainers.scoring import Sample, Scored, score
from steelyard.trainers.tokenizing import NO_LOSS

Messages = Sequence[dict[str, str]]


class Respondent(ABC):
    """A model that answers, and perhaps says how likely it finds a text.

    The same questions in one call give the same answers, in their order.
    """

    has_likelihoods: bool

    @abstractmethod
    def answer(self, conversations: Sequence[Messages], max_new_tokens: int) -> list[str]:
        """Answer each conversation, with the likeliest token each time."""

    @abstractmethod
    def complete(self, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Go on with each text as it stands, without a chat template."""

    @abstractmethod
    def render(self, conversation: Messages) -> str:
        """Return the conversation as the text that an answer would follow."""

    @abstractmethod
    def find_likely(self, texts: Sequence[tuple[str, str]]) -> list[Scored]:
        """Return how likely the second text is after the first, for each pair.

        Raises:
            RunFailure: `has_likelihoods` is False.
        """


class LocalRespondent(Respondent):
    """A model of transformers with its tokenizer. Conversations of one call share a batch."""

    has_likelihoods = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer: Any = tokenizer

    def answer(self, conversations: Sequence[Messages], max_new_tokens: int) -> list[str]:
        """Answer with the tokenizer's chat template; see `render`."""
        return self.complete([self.render(each) for each in conversations], max_new_tokens)

    def render(self, conversation: Messages) -> str:
        """Apply the chat template.

        Where it knows no system's turns, those open the user's; where there is no template at all, turns
        are told apart by `User:` and `Assistant:`.
        """
        if not self._tokenizer.chat_template:
            return _without_template(conversation)
        try:
            return self._apply_template(conversation)
        except TemplateError:
            return self._apply_template(_without_system(conversation))

    def _apply_template(self, conversation: Messages) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(conversation), tokenize=False, add_generation_prompt=True
            )
        )

    @torch.inference_mode()
    def complete(self, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Go on with each text. Padding is on the left, so that all begin at once."""
        ids = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        width = max(len(each) for each in ids)
        padding = self._tokenizer.pad_token_id
        inputs = torch.tensor(
            [[padding] * (width - len(each)) + each for each in ids], device=self._model.device
        )
        mask = torch.tensor(
            [[0] * (width - len(each)) + [1] * len(each) for each in ids], device=self._model.device
        )
        config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=padding, eos_token_id=self._ends()
        )
        found = self._model.generate(input_ids=inputs, attention_mask=mask, generation_config=config)
        return [
            str(each) for each in self._tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
        ]

    def find_likely(self, texts: Sequence[tuple[str, str]]) -> list[Scored]:
        """Return sums of log-likelihoods, in nats, of the tokens of the second text."""
        samples = [self._sample(first, second) for first, second in texts]
        return score(self._model, samples, self._tokenizer.pad_token_id, _ignore)

    def _sample(self, first: str, second: str) -> Sample:
        given = self._tokenizer(first, add_special_tokens=False)["input_ids"]
        scored = self._tokenizer(second, add_special_tokens=False)["input_ids"]
        return Sample((*given, *scored), (*[NO_LOSS] * len(given), *scored))

    def _ends(self) -> list[int]:
        named = getattr(self._model.generation_config, "eos_token_id", None)
        ends = {self._tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
        return sorted(each for each in ends if isinstance(each, int))


class EndpointRespondent(Respondent):
    """A model behind an OpenAI-compatible api: it answers one question after another, without likelihoods.

    Args:
        model: `steelyard.trainers.evaluate_models.EndpointModel`.
    """

    has_likelihoods = False

    def __init__(self, model: Any) -> None:
        self._model = model

    def answer(self, conversations: Sequence[Messages], max_new_tokens: int) -> list[str]:
        """Answer each conversation.

        Raises:
            RunFailure: the api refuses, or doesn't answer.
        """
        options = {"max_gen_toks": max_new_tokens}
        requests = [SimpleNamespace(args=(json.dumps(list(each)), options)) for each in conversations]
        return [str(each) for each in self._model.generate_until(requests)]

    def complete(self, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Ask to go on with each text, as one user's turn: a chat api has no other way."""
        return self.answer([[{"role": "user", "content": text}] for text in texts], max_new_tokens)

    def render(self, conversation: Messages) -> str:
        """Return the last turn: the api applies the template."""
        return conversation[-1]["content"]

    def find_likely(self, texts: Sequence[tuple[str, str]]) -> list[Scored]:
        """Refuse, as the model's `loglikelihood` does."""
        self._model.loglikelihood(texts)
        return []


def _without_template(conversation: Messages) -> str:
    turns = [f"{each['role'].capitalize()}: {each['content']}" for each in conversation]
    return "\n".join([*turns, "Assistant:"])


def _without_system(conversation: Messages) -> Messages:
    if conversation[0]["role"] != "system" or len(conversation) < 2:
        return conversation
    opened = f"{conversation[0]['content']}\n\n{conversation[1]['content']}"
    return [{"role": conversation[1]["role"], "content": opened}, *conversation[2:]]


def _ignore(_: int) -> None:
    return None
