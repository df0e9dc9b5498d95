# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from steelyard.trainers.generation import sample_answers, sampling_for
from steelyard.trainers.ppo.policy import Policy, token_log_probs
from steelyard.trainers.quiet import quieten_libraries
from steelyard.trainers.references import Reference

_PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


@pytest.fixture
def fresh(tiny: Path) -> Any:
    torch.set_num_threads(1)
    quieten_libraries()
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)


@pytest.mark.parametrize("lora", [False, True])
def test_log_probs_are_those_of_each_answer_alone(fresh: Any, tokenizer: Any, lora: bool) -> None:
    model = get_peft_model(fresh, LoraConfig(r=4, target_modules="all-linear")) if lora else fresh
    torch.manual_seed(3)
    answers = sample_answers(model, _PROMPTS, sampling_for(tokenizer, 6, 0.7))
    judged = Policy(model.eval(), 0.7).judge(answers)
    assert torch.allclose(judged.log_probs, token_log_probs(model, answers, 0.7), atol=1e-5)
    assert judged.values.abs().max() == 0.0, "no state is thought good before anything was learned"
    for row, (prompt, answer) in enumerate(zip(_PROMPTS, answers.answer_ids(), strict=True)):
        alone = model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        log_probs = torch.log_softmax(alone / 0.7, dim=1)
        expected = log_probs[range(len(answer)), answer]
        assert torch.allclose(judged.log_probs[row, : len(answer)], expected, atol=1e-4)
        entropies = -(log_probs.exp() * log_probs).sum(dim=1)
        assert torch.allclose(judged.entropies[row, : len(answer)], entropies, atol=1e-4)


def test_values_are_of_the_states_before_each_token(fresh: Any, tokenizer: Any) -> None:
    policy = Policy(fresh.eval(), 1.0)
    torch.manual_seed(3)
    torch.nn.init.normal_(policy.value_head.weight)
    answers = sample_answers(fresh, _PROMPTS, sampling_for(tokenizer, 6, 1.0))
    judged = policy.judge(answers)
    for row, (prompt, answer) in enumerate(zip(_PROMPTS, answers.answer_ids(), strict=True)):
        whole = torch.tensor([[*prompt, *answer]])
        states = fresh(whole, output_hidden_states=True, use_cache=False).hidden_states[-1]
        expected = policy.value_head(states[0, len(prompt) - 1 : -1])[:, 0]
        assert torch.allclose(judged.values[row, : len(answer)], expected, atol=1e-4)


def test_the_reference_of_an_adapter_is_the_model_without_it(fresh: Any, tokenizer: Any) -> None:
    torch.manual_seed(1)
    answers = sample_answers(fresh, _PROMPTS, sampling_for(tokenizer, 4, 1.0))
    before = token_log_probs(fresh, answers, 1.0)
    model: Any = get_peft_model(fresh, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    changed = token_log_probs(model, answers, 1.0)
    with Reference(model).active() as reference:
        assert torch.allclose(token_log_probs(reference, answers, 1.0), before, atol=1e-6)
    assert not torch.allclose(changed, before, atol=1e-2)
    assert torch.equal(token_log_probs(model, answers, 1.0), changed)


def test_a_whole_policy_needs_a_copy(fresh: Any) -> None:
    with pytest.raises(ValueError, match="frozen copy"):
        Reference(fresh)
