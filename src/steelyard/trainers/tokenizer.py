"""Loading a model's tokenizer. Imports no torch: whoever only tokenizes starts sooner without."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.states import Reason


def open_tokenizer(path: Path, name: str, chat_template: str | None) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can pad, with `chat_template` in place of its own where given.

    Args:
        name: the model, as people named it.

    Raises:
        RunFailure: the folder holds no tokenizer.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise model_not_found(path, name, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def model_not_found(path: Path, name: str, error: Exception) -> RunFailure:
    """Make the failure of a folder that doesn't hold what a model needs."""
    first = str(error).splitlines()[0]
    return bad_config(
        Reason.MODEL_NOT_FOUND,
        f"No model could be loaded for {name!r} from {path}: {first}. "
        "The folder needs config.json, safetensors weights and a tokenizer.",
        param="model.name_or_path",
    )
