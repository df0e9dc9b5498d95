"""From the job's training block to TRL's arguments."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

import torch
from trl.trainer.sft_config import SFTConfig

from steelyard.runtime.failures import bad_config
from steelyard.runtime.rank import Rank
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.states import Reason


def build_arguments(spec: FineTuneSpec, rank: Rank, output_dir: str, *, prepared: bool = False) -> SFTConfig:
    """Make TRL's arguments. Rows come tokenized, cut and masked, so TRL is told to leave them alone.

    Args:
        prepared: rows come packed as well, where packing is asked for.

    Raises:
        RunFailure: the spec asks for what this device can't do.
    """
    training = spec.training
    return SFTConfig(
        **common_arguments(spec, rank, output_dir),
        max_length=training.max_length if training.packing else None,
        packing=training.packing,
        dataset_kwargs={"skip_prepare_dataset": prepared},
        completion_only_loss=False,
        assistant_only_loss=False,
        activation_checkpointing=training.gradient_checkpointing,
    )


def common_arguments(spec: FineTuneSpec, rank: Rank, output_dir: str) -> dict[str, Any]:
    """Make what the configurations of all of TRL's trainers share. They save and report through us alone.

    Raises:
        RunFailure: the spec asks for what this device can't do.
    """
    training = spec.training
    on_cpu = not torch.cuda.is_available()
    dtype = spec.model.dtype if spec.model else None
    return {
        "output_dir": output_dir,
        "learning_rate": training.learning_rate,
        "max_steps": training.max_steps or -1,
        "num_train_epochs": training.num_train_epochs or 1.0,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "logging_steps": training.logging_steps,
        "logging_nan_inf_filter": False,
        "seed": training.seed,
        "data_seed": training.seed,
        "use_cpu": on_cpu,
        "bf16": not on_cpu and dtype in (None, "bfloat16"),
        "fp16": not on_cpu and dtype == "float16",
        "dataloader_pin_memory": not on_cpu,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **_distribution(spec, rank, on_cpu),
    }


def _distribution(spec: FineTuneSpec, rank: Rank, on_cpu: bool) -> dict[str, Any]:
    if spec.distributed.strategy == "fsdp":
        if on_cpu:
            # accelerate would wrap the model in DDP and say nothing.
            raise bad_config(
                Reason.BAD_CONFIG,
                "distributed.strategy fsdp needs GPUs; on this node use strategy ddp.",
                param="distributed.strategy",
            )
        return {
            "fsdp": True,
            "fsdp_config": {
                "version": 2,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "state_dict_type": "FULL_STATE_DICT",
            },
        }
    if rank.is_distributed and on_cpu:
        return {"ddp_backend": "gloo"}
    return {}
