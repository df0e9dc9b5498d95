"""Examples that the OpenAPI document shows."""

FINE_TUNE_EXAMPLE = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "support-tone",
    "model": {"name_or_path": "builtin/smollm2-135m-instruct"},
    "dataset": {"ref": "support-chats@v3", "format": "messages"},
    "method": "sft",
    "peft": {"type": "lora", "r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "training": {"learning_rate": 2.0e-4, "max_steps": 60, "per_device_train_batch_size": 4, "seed": 7},
    "checkpoint": {"save_steps": 20, "save_total_limit": 3},
    "evaluation": {"suites": ["heldout"], "gates": [{"metric": "heldout/loss", "max": 3.0}]},
    "limits": {"max_runtime_seconds": 3600, "max_retries": 3},
    "priority": 500,
    "tags": {"team": "support"},
}
