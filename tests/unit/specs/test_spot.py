"""What specs of before said of spot capacity still holds."""

import json

import pytest
from pydantic import ValidationError

from steelyard.specs.blocks import ResourcesBlock, upgrade_spot


@pytest.mark.parametrize(("before", "now"), [(True, "prefer"), (False, "never")])
def test_true_and_false_of_older_specs_are_upgraded(before: bool, now: str) -> None:
    assert upgrade_spot(before) == now
    assert ResourcesBlock.model_validate_json(json.dumps({"spot": before})).spot == now
    assert ResourcesBlock.model_validate({"spot": before}, strict=False).spot == now


@pytest.mark.parametrize("word", ["never", "prefer", "only"])
def test_the_three_words_stand_for_themselves(word: str) -> None:
    block = ResourcesBlock.model_validate_json(json.dumps({"spot": word}))
    assert block.spot == word
    assert ResourcesBlock.model_validate_json(block.model_dump_json()) == block


@pytest.mark.parametrize("word", ["always", 1, None, "true"])
def test_anything_else_is_refused(word: object) -> None:
    with pytest.raises(ValidationError):
        ResourcesBlock.model_validate_json(json.dumps({"spot": word}))


def test_flavors_and_a_price_cap_are_kept() -> None:
    text = json.dumps({"flavors": ["a100", "h100"], "max_price_per_gpu_hour": 2.5})
    block = ResourcesBlock.model_validate_json(text)
    assert (block.flavors, block.max_price_per_gpu_hour) == (["a100", "h100"], 2.5)
