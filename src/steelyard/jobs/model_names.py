"""Names of models that the platform knows: `models/NAME@VERSION`, `checkpoints/ID`, `builtin/...`. Pure."""

import re

from steelyard.specs.models import BUILTIN_MODELS

PREFIXES = ("models/", "checkpoints/")
BUILTIN_PREFIX = "builtin/"
_VERSION = re.compile(r"^models/([a-z0-9][a-z0-9._-]*)@([1-9][0-9]{0,17})$")
_CHECKPOINT = re.compile(r"^checkpoints/(ckpt_[a-z0-9]{26})$")


def parse_version(name: str) -> tuple[str, int] | None:
    """Return the model and the number in `models/NAME@VERSION`; None where it is something else."""
    match = _VERSION.match(name)
    return (match[1], int(match[2])) if match else None


def checkpoint_id(name: str) -> str | None:
    """Return the id in `checkpoints/ID`; None where it is something else."""
    match = _CHECKPOINT.match(name)
    return match[1] if match else None


def why_no_name(name: str) -> str | None:
    """Return why a name can't be that of a model, whatever there is; None where it may be one.

    Hugging Face ids and folders may all be: whoever needs them looks.
    """
    if name.startswith(BUILTIN_PREFIX) and name not in BUILTIN_MODELS:
        return f"there is no {name!r}; use {' or '.join(BUILTIN_MODELS)}"
    if name.startswith(PREFIXES) and parse_version(name) is None and checkpoint_id(name) is None:
        return f"{name!r} names no model; write models/NAME@VERSION or checkpoints/ckpt_..."
    return None
