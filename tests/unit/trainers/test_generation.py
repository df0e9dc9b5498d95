# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from steelyard.trainers.divergence import measure_divergence
from steelyard.trainers.generation import sample_answers, sampling_for
from steelyard.trainers.references import Reference

_PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


def test_equal_seeds_give_equal_answers(model: Any, tokenizer: Any) -> None:
    sampling = sampling_for(tokenizer, 8, 1.0)
    drawn: list[list[list[int]]] = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        drawn.append(sample_answers(model, _PROMPTS, sampling).answer_ids())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_an_answer_ends_with_its_first_end_and_the_rest_is_padding(model: Any, tokenizer: Any) -> None:
    class Scripted:
        device, training, generation_config = "cpu", True, GenerationConfig()

        def eval(self) -> None: ...

        def train(self, _: bool) -> None: ...

        def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            end = tokenizer.eos_token_id
            return torch.cat([input_ids, torch.tensor([[7, end, end], [7, 8, 9]])], dim=1)

    answers = sample_answers(Scripted(), [[5, 6], [4]], sampling_for(tokenizer, 3, 1.0))
    assert answers.answer_ids() == [[7, tokenizer.eos_token_id], [7, 8, 9]]
    assert answers.ended.tolist() == [True, False]
    assert answers.mask.tolist() == [[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]


def test_the_models_own_habits_are_neither_used_nor_lost(model: Any, tokenizer: Any) -> None:
    own = model.generation_config
    model.generation_config = GenerationConfig(repetition_penalty=50.0, top_k=1)
    try:
        torch.manual_seed(2)
        tempered = sample_answers(model, _PROMPTS, sampling_for(tokenizer, 8, 1.0)).answer_ids()
        assert model.generation_config.repetition_penalty == 50.0
        model.generation_config = own
        torch.manual_seed(2)
        assert sample_answers(model, _PROMPTS, sampling_for(tokenizer, 8, 1.0)).answer_ids() == tempered
    finally:
        model.generation_config = own


class TestDivergence:
    def _measure(self, model: Any, tokenizer: Any, frozen: Any, seed: int = 1) -> dict[str, float]:
        return measure_divergence(
            model,
            Reference(model, frozen),
            _PROMPTS,
            sampling_for(tokenizer, 6, 1.0),
            seed=seed,
            on_batch=lambda _: None,
        )

    def test_equal_models_have_none_and_chance_is_left_alone(self, model: Any, tokenizer: Any) -> None:
        before = torch.get_rng_state()
        found = self._measure(model, tokenizer, model)
        assert torch.equal(torch.get_rng_state(), before)
        assert found == {"policy/kl": 0.0, "policy/kl_stderr": 0.0, "policy/kl_n": 3.0}

    def test_it_is_what_the_distributions_say(self, model: Any, tokenizer: Any) -> None:
        """A reference whose logits are halved: its divergence can be worked out token by token."""

        class Halved(torch.nn.Module):
            def forward(self, **inputs: Any) -> Any:
                output = model(**inputs)
                output.logits = output.logits / 2
                return output

        found = self._measure(model, tokenizer, Halved())
        torch.manual_seed(1)
        answers = sample_answers(model, _PROMPTS, sampling_for(tokenizer, 6, 1.0))
        total = count = 0.0
        for prompt, answer in zip(_PROMPTS, answers.answer_ids(), strict=True):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            own, other = torch.log_softmax(logits, 1), torch.log_softmax(logits / 2, 1)
            total += float((own.exp() * (own - other)).sum())
            count += len(answer)
        assert found["policy/kl"] == pytest.approx(total / count, rel=1e-3)
        assert found["policy/kl"] > 0.0
