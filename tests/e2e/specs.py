"""Job specs that the tests of this folder submit."""

from typing import Any

SAVE_STEPS = 20


def sums_spec(name: str = "sums", **training: Any) -> dict[str, Any]:
    """A fine-tune of the tiny model that takes some ten seconds."""
    return {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": name,
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "sums"},
        "training": {
            "max_steps": 300,
            "learning_rate": 1.0e-3,
            "max_length": 64,
            "per_device_train_batch_size": 8,
            "seed": 7,
            **training,
        },
        "checkpoint": {"save_steps": SAVE_STEPS},
        "resources": {"cpus": 1, "memory_gb": 1.0},
        "limits": {"max_retries": 5},
    }


def script_spec(name: str, source: str = "print('done')", **blocks: Any) -> dict[str, Any]:
    """A job that runs a script of one's own; it takes a second."""
    return {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": name,
        "method": "script",
        "script": {"filename": "train.py", "source": source},
        "resources": {"cpus": 1, "memory_gb": 1.0},
        **blocks,
    }
