"""The policy and its value head, which shares the policy's body.

Shapes: B answers, A tokens of the longest, T tokens with their prompts, V words, H width of the last layer.
"""
# ruff: noqa: N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from steelyard.trainers.generation import Answers, answer_logits


@dataclass(frozen=True)
class Judged:
    """What a policy makes of answers, each (B, A)."""

    log_probs: Tensor
    """Of the answers' tokens, at the temperature of sampling."""
    values: Tensor
    """Of the states before each of these tokens."""
    entropies: Tensor
    """Of the distributions that they were drawn from, in nats; without gradients."""


class Policy:
    """A causal language model, maybe with an adapter, and a value head on its last layer's states.

    The head begins at zero, so no state is thought good or bad before anything was learned.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        self.model = model
        self._temperature = temperature
        causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self._states: list[Tensor] = []
        # The states that the words are read off, whatever the model does to its logits afterwards.
        causal.get_output_embeddings().register_forward_pre_hook(self._catch)
        width = causal.get_output_embeddings().in_features
        self.value_head = nn.Linear(width, 1, device=model.device, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained, always in the same order."""
        trained = [each for each in self.model.parameters() if each.requires_grad]
        return [*trained, *self.value_head.parameters()]

    def judge(self, answers: Answers) -> Judged:
        """Judge answers as the policy stands now."""
        logits_BAV = answer_logits(self.model, answers) / self._temperature
        states_BAH = self._take_states(answers)
        log_BAV = torch.log_softmax(logits_BAV, dim=2)
        chosen_BA1 = answers.ids[:, answers.prompt_length :, None]
        with torch.no_grad():
            entropies_BA = -(log_BAV.exp() * log_BAV).sum(dim=2)
        return Judged(
            log_BAV.gather(2, chosen_BA1)[:, :, 0],
            self.value_head(states_BAH.float())[:, :, 0],
            entropies_BA,
        )

    def _catch(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        self._states = [inputs[0]]

    def _take_states(self, answers: Answers) -> Tensor:
        states = self._states.pop()
        return states[:, -answers.answer_mask.shape[1] - 1 : -1]


@torch.no_grad()
def token_log_probs(model: Any, answers: Answers, temperature: float) -> Tensor:
    """Return the log-probabilities (B, A) that a model gives the tokens of the answers."""
    log_BAV = torch.log_softmax(answer_logits(model, answers) / temperature, dim=2)
    return log_BAV.gather(2, answers.ids[:, answers.prompt_length :, None])[:, :, 0]
