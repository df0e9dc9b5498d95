"""The training that benches compare with: TRL as one would write it by hand, no platform anywhere.

`python -m bench.plain_dpo orders.json`, where the file holds `model_path`, `data` (a JSON Lines file of
prompts with a chosen and a rejected answer), `out`, `steps_file`, `threads`, `lora` (or null) and `arguments`
of `DPOConfig`. One line is appended to `steps_file` for each optimizer step, when it is logged: as the
platform's trainer does.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # pyright: ignore[reportAttributeAccessIssue]
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer


class StepTimes(TrainerCallback):
    """Writes when each step was logged, and its loss."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append one line."""
        if logs and "loss" in logs:
            line = {
                "step": state.global_step,
                "timestamp_ms": time.time_ns() // 1_000_000,
                "values": {"loss": float(logs["loss"])},
            }
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def main(orders_path: str) -> None:
    """Train."""
    orders = json.loads(Path(orders_path).read_text())
    torch.set_num_threads(orders["threads"])
    rows = [json.loads(line) for line in Path(orders["data"]).read_text().splitlines()]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(orders["model_path"], dtype=torch.float32),
        args=DPOConfig(output_dir=orders["out"], **orders["arguments"]),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(orders["model_path"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **orders["lora"]) if orders["lora"] else None,
        callbacks=[StepTimes(Path(orders["steps_file"]))],
    )
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1])
