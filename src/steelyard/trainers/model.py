"""Loading the base model and its tokenizer from a local folder, and saving what came of it."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from steelyard.specs.blocks import LoraBlock, ModelBlock
from steelyard.trainers.tokenizer import model_not_found, open_tokenizer

_ADAPTER_CONFIG = "adapter_config.json"
_EMPTY_CARD = "README.md"
_SETS = {"target_modules", "exclude_modules", "modules_to_save"}


def load_tokenizer(path: Path, block: ModelBlock) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can pad, with the spec's chat template where it names one.

    Raises:
        RunFailure: the folder holds no tokenizer.
    """
    return open_tokenizer(path, block.name_or_path, block.chat_template)


def load_model(path: Path, block: ModelBlock) -> PreTrainedModel:
    """Load a causal language model; on CPU in float32 unless the spec names a type.

    Raises:
        RunFailure: the folder holds no model that can be loaded.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype=weight_type(block.dtype))
    except (OSError, ValueError) as error:
        raise model_not_found(path, block.name_or_path, error) from error


def weight_type(named: str | None) -> torch.dtype:
    """Return the type of weights in memory: the one named, else bfloat16 on GPUs and float32 on CPU."""
    return getattr(torch, named or ("bfloat16" if torch.cuda.is_available() else "float32"))


def lora_config(block: LoraBlock | None, *, scorer: bool = False) -> LoraConfig | None:
    """Make PEFT's configuration, or None where all weights are trained.

    Args:
        scorer: the model is a reward model, whose head is trained whole.
    """
    if block is None:
        return None
    return LoraConfig(
        r=block.r,
        lora_alpha=block.lora_alpha,
        lora_dropout=block.lora_dropout,
        target_modules=block.target_modules,
        task_type="SEQ_CLS" if scorer else "CAUSAL_LM",
        modules_to_save=["score"] if scorer else None,
    )


def name_base(folder: Path, block: ModelBlock, revision: str | None) -> None:
    """Let a saved adapter be the same bytes wherever it is made: it names its base as the spec does, not by
    the folder on this node, and lists its modules in order, where PEFT writes sets as they fall.

    PEFT's README.md, an empty form that names that folder too, goes: the registry writes a card.
    """
    path = folder / _ADAPTER_CONFIG
    if not path.exists():
        return
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = block.name_or_path
    config["revision"] = revision or block.revision
    for name in _SETS & config.keys():
        if isinstance(config[name], list):
            config[name] = sorted(config[name])
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    (folder / _EMPTY_CARD).unlink(missing_ok=True)


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter, which needs its base."""
    return (folder / _ADAPTER_CONFIG).exists()
