"""A rollout: answers of the policy as it stands, their scores, and what the update is measured against."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steelyard.specs.methods import OnlineBlock
from steelyard.trainers.answering import answer_and_score
from steelyard.trainers.generation import Answers, Sampling
from steelyard.trainers.ppo.advantages import estimate_advantages, token_rewards, whiten
from steelyard.trainers.ppo.controls import Controls
from steelyard.trainers.ppo.policy import Policy, token_log_probs
from steelyard.trainers.prompts import Prompt
from steelyard.trainers.references import Reference
from steelyard.trainers.reward_model import Scorer


@dataclass(frozen=True)
class Rollout:
    """Answers with all that an update needs; tensors are (B, A)."""

    answers: Answers
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    figures: dict[str, float]
    """What people see of it: `reward`, `kl` in nats per token, `kl_per_answer`, ..."""

    def part(self, start: int, stop: int) -> "Rollout":
        """Return some of the answers. Columns stay, so that their sums are the same as in the whole."""
        answers = Answers(
            self.answers.ids[start:stop],
            self.answers.mask[start:stop],
            self.answers.answer_mask[start:stop],
            self.answers.ended[start:stop],
        )
        return Rollout(
            answers,
            self.log_probs[start:stop],
            self.values[start:stop],
            self.advantages[start:stop],
            self.returns[start:stop],
            self.figures,
        )


class Roller:
    """Makes rollouts. Uses torch's global random numbers."""

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        scorer: Scorer,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        block: OnlineBlock,
        batch: int,
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._scorer = scorer
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._block = block
        self._batch = batch

    def roll(self, prompts: Sequence[Prompt], controls: Controls) -> Rollout:
        """Answer prompts and judge the answers; `controls` learn from it.

        Raises:
            RunFailure: the reward model can't read a prompt.
        """
        scored = answer_and_score(self._policy.model, prompts, self._sampling, self._tokenizer, self._scorer)
        answers, mask = scored.answers, scored.answers.answer_mask.float()
        log_probs, values, entropies = self._judge(answers)
        log_ratios = (log_probs - self._refer(answers)) * mask
        rewards = token_rewards(
            self._final_scores(scored.scores, answers, controls), log_ratios, mask, controls.beta.beta
        )
        if self._block.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        advantages, returns = estimate_advantages(
            rewards, values, mask, self._block.gamma, self._block.gae_lambda
        )
        figures = _figures(scored.scores, answers, log_ratios, entropies, mask)
        figures |= {"beta": controls.beta.beta, "value_error": _error(values, returns, mask)}
        controls.beta.update(figures["kl_per_answer"])
        return Rollout(answers, log_probs, values, whiten(advantages, mask), returns, figures)

    @torch.no_grad()
    def _judge(self, answers: Answers) -> tuple[Tensor, Tensor, Tensor]:
        judged = [self._policy.judge(part) for part in _parts(answers, self._batch)]
        return (
            torch.cat([each.log_probs for each in judged]),
            torch.cat([each.values for each in judged]),
            torch.cat([each.entropies for each in judged]),
        )

    def _refer(self, answers: Answers) -> Tensor:
        with self._reference.active() as model:
            parts = [
                token_log_probs(model, part, self._block.temperature) for part in _parts(answers, self._batch)
            ]
        return torch.cat(parts)

    def _final_scores(self, scores: Sequence[float], answers: Answers, controls: Controls) -> Tensor:
        scaled = torch.tensor(controls.scale.scale(scores), device=answers.ids.device)
        return scaled - self._block.missing_eos_penalty * (~answers.ended).float()


def _parts(answers: Answers, size: int) -> list[Answers]:
    tensors: list[Any] = [
        each.split(size) for each in (answers.ids, answers.mask, answers.answer_mask, answers.ended)
    ]
    return [Answers(*part) for part in zip(*tensors, strict=True)]


def _figures(
    scores: Sequence[float], answers: Answers, log_ratios: Tensor, entropies: Tensor, mask: Tensor
) -> dict[str, float]:
    # The divergences are means of log(p/q) over what was sampled: without bias, and so, where there is hardly
    # any, now and then below zero. `policy/kl` at the end has less noise.
    rewards = torch.tensor(scores)
    lengths = mask.sum(dim=1)
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(correction=0)),
        "kl": float(log_ratios.sum() / mask.sum()),
        "kl_per_answer": float(log_ratios.sum(dim=1).mean()),
        "entropy": float((entropies * mask).sum() / mask.sum()),
        "answer_tokens": float(lengths.mean()),
        "ended": float(answers.ended.float().mean()),
    }


def _error(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    return float((((values - returns) ** 2) * mask).sum() / mask.sum())
