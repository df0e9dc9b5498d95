"""How likely a model finds given tokens, and figures made of that. Pure functions of a model and numbers.

Shapes: B sequences of a batch, T tokens (padded), V words of the vocabulary.
"""
# ruff: noqa: N803, N806 - capital suffixes name the shapes of tensors
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steelyard.trainers.tokenizing import NO_LOSS

_PADDED_TOKENS_PER_BATCH = 1024


@dataclass(frozen=True)
class Scored:
    """Sum of log-likelihoods, in nats, over `tokens` scored tokens."""

    log_likelihood: float
    tokens: int

    @property
    def per_token(self) -> float:
        """Mean log-likelihood of a token; 0 where none was scored."""
        return self.log_likelihood / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Sample:
    """Token ids with labels beside them; `NO_LOSS` where a token is given rather than scored."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


def score(
    model: Any, sequences: Sequence[Sample], pad_token_id: int, on_batch: Callable[[int], None]
) -> list[Scored]:
    """Score every sequence; results come in the order given. Equal sequences are scored once.

    `on_batch` is called after each batch with the number of sequences scored so far; it may raise.
    """
    # Neighbours in length share a batch, so that little is padded.
    distinct = sorted(set(sequences), key=lambda each: (len(each.input_ids), each.input_ids, each.labels))
    found: dict[Sample, Scored] = {}
    for batch in _batches(distinct):
        found.update(zip(batch, _score_batch(model, batch, pad_token_id), strict=True))
        on_batch(len(found))
    return [found[each] for each in sequences]


def mean_loss(scores: Sequence[Scored]) -> Estimate:
    """Loss per token over all rows: a ratio of sums, with the ratio's standard error over rows.

    Cochran, Sampling Techniques, section 6.4: var = n/(n-1) * sum((s - r t)^2) / sum(t)^2.
    """
    tokens = sum(each.tokens for each in scores)
    loss = -sum(each.log_likelihood for each in scores) / tokens
    count = len(scores)
    if count < 2:
        return Estimate(loss, 0.0)
    squares = sum((-each.log_likelihood - loss * each.tokens) ** 2 for each in scores)
    return Estimate(loss, math.sqrt(count / (count - 1) * squares) / tokens)


def perplexity(loss: Estimate) -> Estimate:
    """exp(loss), its error by the delta method."""
    value = math.exp(min(loss.value, 700.0))
    return Estimate(value, value * loss.stderr)


def share(hits: Sequence[bool]) -> Estimate:
    """Share of hits, with the binomial standard error."""
    value = sum(hits) / len(hits)
    return Estimate(value, math.sqrt(value * (1.0 - value) / len(hits)))


def picks(options: Sequence[Scored], *, normalised: bool) -> int:
    """Index of the likeliest option: by mean over its tokens, or by sum. The first of equals."""
    values = [each.per_token if normalised else each.log_likelihood for each in options]
    return values.index(max(values))


def keeps_logits(model: Any) -> bool:
    """Whether a model can be asked for the logits of some places alone (`logits_to_keep`)."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def _batches(sequences: Sequence[Sample]) -> list[list[Sample]]:
    """Cut a list sorted by length so that rows times the longest stays within the budget."""
    batches: list[list[Sample]] = []
    for each in sequences:
        longest = len(each.input_ids)
        if batches and (len(batches[-1]) + 1) * longest <= _PADDED_TOKENS_PER_BATCH:
            batches[-1].append(each)
        else:
            batches.append([each])
    return batches


@torch.no_grad()
def _score_batch(model: Any, batch: list[Sample], pad_token_id: int) -> list[Scored]:
    longest = max(len(each.input_ids) for each in batch)
    ids_BT = _padded([each.input_ids for each in batch], longest, pad_token_id, model.device)
    labels_BT = _padded([each.labels for each in batch], longest, NO_LOSS, model.device)
    lengths = torch.tensor([len(each.input_ids) for each in batch], device=model.device)
    mask_BT = torch.arange(longest, device=model.device)[None, :] < lengths[:, None]
    # Position t foretells token t + 1; nothing before the first label is worth a row of V logits.
    scored = (labels_BT[:, 1:] != NO_LOSS).any(dim=0).nonzero()
    first = int(scored[0]) if len(scored) else 0
    kept = torch.arange(first, longest - 1, device=model.device)
    logits_BTV = _logits(model, ids_BT, mask_BT, kept)
    targets_BT = labels_BT[:, first + 1 :]
    counts_BT = targets_BT != NO_LOSS
    chosen_BT = logits_BTV.gather(2, targets_BT.clamp(min=0)[:, :, None])[:, :, 0]
    likely_BT = (chosen_BT - logits_BTV.logsumexp(dim=2)) * counts_BT
    sums, counts = likely_BT.sum(dim=1).tolist(), counts_BT.sum(dim=1).tolist()
    return [Scored(float(total), int(count)) for total, count in zip(sums, counts, strict=True)]


def _logits(model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    # Without use_cache=False some models let rows of one batch see each other.
    inputs = {"input_ids": ids_BT, "attention_mask": mask_BT.long(), "use_cache": False}
    if keeps_logits(model):
        return model(**inputs, logits_to_keep=kept).logits.float()
    return model(**inputs).logits[:, kept].float()


def _padded(rows: Sequence[Sequence[int]], width: int, filler: int, device: torch.device) -> torch.Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], device=device)
