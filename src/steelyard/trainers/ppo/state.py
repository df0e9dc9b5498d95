"""What a checkpoint of PPO holds, all of it as safetensors and JSON: nothing in it can run code.

The policy's weights (or its adapter), the value head, AdamW's moments, torch's random numbers, and in
`ppo_state.json` the step and the controls. Prompts and schedule follow from the step.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from steelyard.trainers.ppo.controls import Controls
from steelyard.trainers.ppo.learner import Learner
from steelyard.trainers.ppo.policy import Policy

_STATE_NAME = "ppo_state.json"
_HEAD_NAME = "value_head.safetensors"
_OPTIMIZER_NAME = "optimizer.safetensors"
_RANDOM_NAME = "random.safetensors"
_ADAPTER_NAME = "adapter_model.safetensors"
_WEIGHTS_NAME = "model.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def write_state(folder: Path, step: int, policy: Policy, learner: Learner, controls: Controls) -> None:
    """Fill `folder` with all that going on after `step` needs."""
    policy.model.save_pretrained(folder)
    save_file(policy.value_head.state_dict(), folder / _HEAD_NAME)
    save_file(_moments(learner), folder / _OPTIMIZER_NAME)
    save_file(_random_numbers(), folder / _RANDOM_NAME)
    state = {"step": step, "controls": controls.as_json()}
    (folder / _STATE_NAME).write_text(json.dumps(state))


def read_controls(folder: Path) -> tuple[int, Controls]:
    """Return the step of a checkpoint and its controls."""
    state = json.loads((folder / _STATE_NAME).read_text())
    return int(state["step"]), Controls.from_json(state["controls"])


def restore_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's weights into the policy's model."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(folder / _ADAPTER_NAME))
        return
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(path)
    # Tied weights are saved once, so a name may be missing; none may be unknown.
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the checkpoint holds weights that the model has no place for: {unknown[0]}")


def restore_learning(folder: Path, policy: Policy, learner: Learner) -> None:
    """Put value head, moments and random numbers back. Call it last: from here on chance is as it was."""
    policy.value_head.load_state_dict(load_file(folder / _HEAD_NAME))
    moments = load_file(folder / _OPTIMIZER_NAME)
    state: Any = learner.optimizer.state
    for index, parameter in enumerate(policy.parameters()):
        if f"{index}.step" in moments:
            state[parameter] = {
                name: moments[f"{index}.{name}"].to(_place(name, parameter)) for name in _MOMENTS
            }
    _restore_random_numbers(folder)


def _place(name: str, parameter: torch.nn.Parameter) -> torch.device:
    # AdamW counts its steps on the CPU.
    return torch.device("cpu") if name == "step" else parameter.device


def _moments(learner: Learner) -> dict[str, torch.Tensor]:
    optimizer: Any = learner.optimizer
    saved: dict[str, torch.Tensor] = {}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for name in _MOMENTS:
            if parameter in optimizer.state:
                saved[f"{index}.{name}"] = optimizer.state[parameter][name].contiguous()
    return saved


def _random_numbers() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{index}": each for index, each in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_random_numbers(folder: Path) -> None:
    states = load_file(folder / _RANDOM_NAME)
    torch.set_rng_state(states.pop("cpu"))
    for name, state in states.items():
        torch.cuda.set_rng_state(state, int(name.removeprefix("cuda.")))
