"""What a tokenized cache is found by: all that its bytes depend on, without a library that tokenizes."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steelyard.kit.canonical import digest_bytes, digest_file, digest_json
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.run import DatasetFiles
from steelyard.specs.tokens import TokenSettings

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
)
_CONFIG = "tokenizer_config.json"
_TEMPLATE = "chat_template"
_LIBRARIES = ("transformers", "tokenizers", "jinja2")
_PACKERS = ("trl",)


def settings_of(
    dataset: DatasetFiles, model: Path, chat_template: str | None, training: TrainingBlock
) -> TokenSettings:
    """Return the settings that the tokens of a training split depend on.

    What can't change them is left out: the template where no row is a conversation, `completion_only_loss`
    where no row has a completion. Reads the small files of the model's folder and the split's first row.

    Raises:
        OSError: the folder or the split is not there.
    """
    chat = _is_chat(dataset)
    pairs = dataset.format == "prompt_completion"
    libraries = (*_LIBRARIES, *(_PACKERS if training.packing else ()))
    return TokenSettings(
        dataset_digest=dataset.digest,
        format=dataset.format,
        tokenizer_digest=tokenizer_digest(model),
        template_digest=template_digest(model, chat_template) if chat else None,
        max_length=training.max_length,
        overlong=training.overlong,
        packing=training.packing,
        assistant_only_loss=training.assistant_only_loss,
        completion_only_loss=pairs and training.completion_only_loss is not False,
        libraries={name: version(name) for name in libraries},
    )


def tokenizer_digest(model: Path) -> str:
    """Return the digest of a model's tokenizer, its chat template apart."""
    files = {name: digest_file(model / name) for name in _TOKENIZER_FILES if (model / name).is_file()}
    config = _read_json(model / _CONFIG)
    config.pop(_TEMPLATE, None)
    # Where the tokenizer's configuration names no class, the model's type decides.
    kind = _read_json(model / "config.json").get("model_type")
    return digest_json({"files": files, "config": config, "model_type": kind})


def template_digest(model: Path, chat_template: str | None) -> str:
    """Return the digest of the template that conversations are rendered with."""
    if chat_template is not None:
        return digest_bytes(chat_template.encode())
    file = model / f"{_TEMPLATE}.jinja"
    if file.is_file():
        return digest_file(file)
    own: Any = _read_json(model / _CONFIG).get(_TEMPLATE)
    return digest_bytes(own.encode()) if isinstance(own, str) else digest_json(own)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _is_chat(dataset: DatasetFiles) -> bool:
    if dataset.format != "prompt_completion":
        return dataset.format == "messages"
    with Path(dataset.train[0]).open(encoding="utf-8") as file:
        line = file.readline()
    return bool(line.strip()) and isinstance(json.loads(line).get("prompt"), list)
