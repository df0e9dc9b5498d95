"""Everything heavy that a trainer needs, imported once. The fork server imports this, then forks.

Importing starts no thread and touches no device: it must be safe to fork afterwards. So grpo is left out:
what TRL's trainer of it imports starts threads, and a fork of it imports that by itself.
"""

import importlib

_MODULES = (
    "torch",
    "accelerate",
    "datasets",
    "peft",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
    "lm_eval.models.huggingface",
    "steelyard.trainers.sft",
    "steelyard.trainers.reward",
    "steelyard.trainers.dpo",
    "steelyard.trainers.kto",
    "steelyard.trainers.ppo",
    "steelyard.trainers.evaluate",
    "steelyard.trainers.script",
)


def import_all() -> None:
    """Import the libraries and the trainers, so that a fork begins with its work."""
    for name in _MODULES:
        importlib.import_module(name)


import_all()
