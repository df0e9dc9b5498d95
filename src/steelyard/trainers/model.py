"""Loading the base model and its tokenizer from a local folder, and saving what came of it."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import LoraBlock, ModelBlock
from steelyard.specs.states import Reason

_ADAPTER_CONFIG = "adapter_config.json"


def load_tokenizer(path: Path, block: ModelBlock) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can pad, with the spec's chat template where it names one.

    Raises:
        RunFailure: the folder holds no tokenizer.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise _not_found(path, block, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if block.chat_template is not None:
        tokenizer.chat_template = block.chat_template
    return tokenizer


def load_model(path: Path, block: ModelBlock) -> PreTrainedModel:
    """Load a causal language model; on CPU in float32 unless the spec names a type.

    Raises:
        RunFailure: the folder holds no model that can be loaded.
    """
    named = block.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")
    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, named))
    except (OSError, ValueError) as error:
        raise _not_found(path, block, error) from error


def lora_config(block: LoraBlock | None) -> LoraConfig | None:
    """Make PEFT's configuration, or None where all weights are trained."""
    if block is None:
        return None
    return LoraConfig(
        r=block.r,
        lora_alpha=block.lora_alpha,
        lora_dropout=block.lora_dropout,
        target_modules=block.target_modules,
        task_type="CAUSAL_LM",
    )


def name_base(folder: Path, block: ModelBlock, revision: str | None) -> None:
    """Let a saved adapter name its base as the spec does: the base's folder differs from node to node."""
    path = folder / _ADAPTER_CONFIG
    if not path.exists():
        return
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = block.name_or_path
    config["revision"] = revision or block.revision
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter, which needs its base."""
    return (folder / _ADAPTER_CONFIG).exists()


def _not_found(path: Path, block: ModelBlock, error: Exception) -> RunFailure:
    first = str(error).splitlines()[0]
    return bad_config(
        Reason.MODEL_NOT_FOUND,
        f"No model could be loaded for {block.name_or_path!r} from {path}: {first}. "
        "The folder needs config.json, safetensors weights and a tokenizer.",
        param="model.name_or_path",
    )
