"""Keeps the job's log for the job: no progress bars, no talk among libraries about their own futures."""

import warnings

from transformers.utils.logging import disable_progress_bar

_LIBRARIES = r"(transformers|trl|peft|accelerate|datasets|huggingface_hub)(\.|$)"


def quieten_libraries() -> None:
    """Turn off what the training stack prints for its developers."""
    disable_progress_bar()
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=_LIBRARIES)
