"""Names of models that the platform made itself: `models/NAME@VERSION` and `checkpoints/ID`. Pure."""

import re

PREFIXES = ("models/", "checkpoints/")
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
