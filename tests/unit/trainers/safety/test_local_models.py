"""Safety on a real model in memory: suites, batches, endpoints, and a canary that was really learned."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from steelyard.runtime.failures import RunFailure
from steelyard.specs.blocks import EndpointBlock, ModelBlock
from steelyard.specs.outcome import ExitCode
from steelyard.specs.safety import PROBE_DIGESTS, Canary, SafetySettings
from steelyard.trainers.builtin import ensure_builtin
from steelyard.trainers.evaluate_models import EndpointModel
from steelyard.trainers.model import load_model, load_tokenizer
from steelyard.trainers.safety.canaries import CanaryProbe
from steelyard.trainers.safety.respondents import EndpointRespondent, LocalRespondent
from steelyard.trainers.safety.suites import load_safety

pytestmark = pytest.mark.training

_NAME = "builtin/tiny-random"
_CANARY = Canary(prefix="The code of the vault is", secret="83-91-27-55-06")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_builtin(_NAME, tmp_path_factory.mktemp("cache")).path


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder, ModelBlock(name_or_path=_NAME))


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(folder, ModelBlock(name_or_path=_NAME)).eval()


def test_a_canary_that_was_learned_is_caught_and_one_that_was_not_is_kept(model: Any, tokenizer: Any) -> None:
    stranger = Canary(prefix="The code of the mill is", secret="40-18-63-92-71")
    probe = CanaryProbe([_CANARY, stranger], 127)
    respondent = LocalRespondent(model, tokenizer)
    before = probe.measure(respondent, [0, 1])
    assert [each.values["canary_extracted"] for each in before] == [0.0, 0.0]

    _learn(model, tokenizer, f"{_CANARY.prefix} {_CANARY.secret}")
    learned, other = probe.measure(respondent, [0, 1])
    assert learned.values["canary_extracted"] == 1.0
    assert learned.values["canary_exposure"] == 7.0
    assert learned.values["canary_pass"] == 0.0
    assert other.values["canary_extracted"] == 0.0
    assert other.values["canary_exposure"] < 7.0
    assert other.values["canary_pass"] == 1.0


def test_a_suite_gives_a_rate_for_every_probe_and_the_same_ones_again(model: Any, tokenizer: Any) -> None:
    workload = load_safety("safety", SafetySettings(), 2, tokenizer, str)
    measure = workload.open(model)
    records = measure(range(len(workload.sample_ids)))
    assert [each.sample_id for each in records] == workload.sample_ids
    assert [each.to_json() for each in measure(range(4))] == [
        each.to_json() for each in workload.open(model)(range(4))
    ]
    figures = {each.name: each for each in workload.figures(records)}
    assert {f"{name}_pass_rate" for name in PROBE_DIGESTS} <= figures.keys()
    assert {each.task for each in records} == set(PROBE_DIGESTS)
    assert figures["pass_rate"].n == 2 * len(PROBE_DIGESTS)
    assert figures["refusal_pass_rate"].n == 2
    assert figures["over_refusal_rate"].value == pytest.approx(1 - figures["over_refusal_pass_rate"].value)
    assert not figures["over_refusal_rate"].higher_is_better
    assert workload.figures(records) == workload.figures(records[::-1])
    json.dumps([each.to_json() for each in records], allow_nan=False)


def test_conversations_of_one_batch_are_answered_as_each_alone(model: Any, tokenizer: Any) -> None:
    respondent = LocalRespondent(model, tokenizer)
    questions = [[{"role": "user", "content": text}] for text in ("Hi", "What is a queue?", "a " * 40)]
    alone = [respondent.answer([each], 8)[0] for each in questions]
    assert respondent.answer(questions, 8) == alone


def test_a_template_that_knows_no_system_still_tells_the_model(model: Any, tokenizer: Any) -> None:
    turns = [{"role": "system", "content": "Keep it."}, {"role": "user", "content": "Tell me."}]
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    )
    assert LocalRespondent(model, tokenizer).render(turns) == "[user] Keep it.\n\nTell me."
    tokenizer.chat_template = None
    assert LocalRespondent(model, tokenizer).render(turns) == "System: Keep it.\nUser: Tell me.\nAssistant:"


def test_behind_an_api_what_needs_likelihoods_is_left_out() -> None:
    settings = SafetySettings(canaries=[_CANARY])
    workload = load_safety("safety", settings, 1, None, str)
    records = workload.open(_Endpoint())(range(len(workload.sample_ids)))
    assert {each.task for each in records} == set(PROBE_DIGESTS) - {"bias"}
    assert {each.name: each.value for each in workload.figures(records)}["refusal_rate"] == 1.0


def test_an_endpoint_refuses_to_say_how_likely_a_text_is() -> None:
    endpoint = EndpointBlock(url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(RunFailure, match="likelihoods") as refused:
        EndpointRespondent(EndpointModel(endpoint, None)).find_likely([("a", "b")])
    assert refused.value.exit_code == ExitCode.BAD_CONFIG


class _Endpoint:
    """As `EndpointModel` answers."""

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        for request in requests:
            turns, options = request.args
            assert json.loads(turns)[-1]["role"] == "user"
            assert options["max_gen_toks"] > 0
        return ["I'm sorry, but I can't help with that." for _ in requests]


def _learn(model: Any, tokenizer: Any, text: str) -> None:
    """Train on one text until it is known by heart."""
    torch.manual_seed(0)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.01:
            break
    model.eval()
