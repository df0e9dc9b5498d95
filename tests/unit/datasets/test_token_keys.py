"""A cache's key changes when, and only when, something changes that its tokens depend on."""

import json
from pathlib import Path
from typing import Any

import pytest

from steelyard.datasets.token_keys import settings_of
from steelyard.specs.blocks import DatasetFormat, TrainingBlock
from steelyard.specs.run import DatasetFiles

_CHAT = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
_PAIR = {"prompt": "a", "completion": "b"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "chat_template": "one"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    (folder / "model.safetensors").write_text("weights")
    return folder


def key(
    model: Path,
    *,
    shape: DatasetFormat = "messages",
    row: dict[str, Any] | None = None,
    digest: str = "sha256:d",
    template: str | None = None,
    **training: Any,
) -> str:
    rows = model.parent / "train.jsonl"
    rows.write_text(json.dumps(row or {"messages": []}) + "\n")
    dataset = DatasetFiles(digest=digest, format=shape, train=[str(rows)], validation=[])
    return settings_of(dataset, model, template, TrainingBlock(**training)).key()


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 64},
        {"packing": True},
        {"overlong": "truncate"},
        {"overlong": "drop"},
        {"assistant_only_loss": True},
        {"digest": "sha256:e"},
        {"template": "two"},
    ],
)
def test_what_matters_changes_it(model: Path, change: dict[str, Any]) -> None:
    assert key(model, **change) != key(model)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-5},
        {"max_steps": 7},
        {"num_train_epochs": 2.0},
        {"per_device_train_batch_size": 64},
        {"gradient_accumulation_steps": 3},
        {"gradient_checkpointing": True},
        {"logging_steps": 9},
        {"seed": 8},
        {"max_overlong_share": 0.5},
        {"completion_only_loss": True},
        {"template": "one"},
    ],
)
def test_what_does_not_matter_leaves_it(model: Path, change: dict[str, Any]) -> None:
    assert key(model, **change) == key(model)


def test_the_tokenizer_matters_and_the_weights_do_not(model: Path) -> None:
    before = key(model)
    (model / "model.safetensors").write_text("others")
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 16}))
    assert key(model) == before
    (model / "tokenizer.json").write_text('{"version": "2.0"}')
    changed = key(model)
    assert changed != before
    (model / "tokenizer_config.json").write_text(json.dumps({"pad_token": "</s>", "chat_template": "one"}))
    assert key(model) not in (before, changed)


def test_the_models_own_template_matters_where_it_is_used(model: Path) -> None:
    chats, overridden, texts = key(model), key(model, template="x"), key(model, shape="text")
    (model / "chat_template.jinja").write_text("another")
    assert key(model) != chats
    assert key(model, template="x") == overridden
    assert key(model, shape="text") == texts


def test_pairs_have_a_completion_mask_and_a_template_only_as_conversations(model: Path) -> None:
    plain = key(model, shape="prompt_completion", row=_PAIR)
    assert key(model, shape="prompt_completion", row=_PAIR, completion_only_loss=True) == plain
    assert key(model, shape="prompt_completion", row=_PAIR, completion_only_loss=False) != plain
    assert key(model, shape="prompt_completion", row=_PAIR, template="x") == plain
    chats = key(model, shape="prompt_completion", row=_CHAT)
    assert chats != plain
    assert key(model, shape="prompt_completion", row=_CHAT, template="x") != chats
