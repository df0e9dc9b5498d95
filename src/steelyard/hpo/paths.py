"""Fields of a trial that a search may set."""

import difflib
from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel

from steelyard.specs.job import FineTuneSpec

_BLOCKS = ("training", "peft", "model", "preference", "online")
_OF_CURVES = ("training.eval_steps", "training.eval_max_samples", "training.logging_steps")
_RESERVED = "what a trial may use is reserved for all trials alike, before the first one"
_SHARED = "it is the search's, the same for all trials"
_CLOSED = {
    "resources": _RESERVED,
    "limits": _RESERVED,
    "distributed": _RESERVED,
    "priority": _SHARED,
    "secrets": _SHARED,
    "tags": _SHARED,
    "name": _SHARED,
    "register_as": _SHARED,
    "api_version": _SHARED,
    "type": "a trial is a fine-tune",
    "method": "trials of different methods measure different things; search each by itself",
    "dataset": "trials on different data don't compare; search each dataset by itself",
    "evaluation": "trials that are measured differently don't compare",
    "checkpoint": "it changes nothing that is measured",
    "script": "a script's text and arguments are the same for all trials; let it read training's fields",
}


_SHORT_FORMS = {
    "lr": "training.learning_rate",
    "rate": "training.learning_rate",
    "bs": "training.per_device_train_batch_size",
    "batch": "training.per_device_train_batch_size",
    "batch_size": "training.per_device_train_batch_size",
    "per_device_batch_size": "training.per_device_train_batch_size",
    "grad_accum": "training.gradient_accumulation_steps",
    "gradient_accumulation": "training.gradient_accumulation_steps",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "steps": "training.max_steps",
    "wd": "training.weight_decay",
    "decay": "training.weight_decay",
    "warmup": "training.warmup_steps",
    "scheduler": "training.lr_scheduler_type",
    "lr_scheduler": "training.lr_scheduler_type",
    "grad_norm": "training.max_grad_norm",
    "clip": "training.max_grad_norm",
    "seq_len": "training.max_length",
    "max_seq_length": "training.max_length",
    "rank": "peft.r",
    "lora_r": "peft.r",
    "lora_rank": "peft.r",
    "alpha": "peft.lora_alpha",
    "dropout": "peft.lora_dropout",
    "base_model": "model.name_or_path",
}
"""What people call a field -> the field."""
_LIKENESS = 0.75


def why_closed(path: str, template: FineTuneSpec) -> str | None:
    """Return why a search can't set a field, in words; None where it can."""
    block = path.partition(".")[0]
    if block in _CLOSED:
        return f"{path} can't be searched: {_CLOSED[block]}"
    if path in _OF_CURVES:
        return f"{path} can't be searched: curves with points at different steps don't compare"
    known = open_paths()
    if path not in known:
        near = nearest(path, known)
        meant = f"; did you mean {near}?" if near else f"; fields are such as {', '.join(known[:3])}"
        return f"a fine-tune has no field {path}{meant}"
    if getattr(template, block) is None:
        return f"trial has no {block} block, so {path} can't be set; give it one"
    return None


def nearest(path: str, known: Sequence[str]) -> str | None:
    """Return the field that was meant, most likely: by a common short form, by its words, by its letters."""
    name = path.rpartition(".")[2].lower()
    if (meant := _SHORT_FORMS.get(name)) in known:
        return meant
    if (exact := [each for each in known if each.rpartition(".")[2] == name]) != []:
        return exact[0]
    words = _words(name)
    shared = {each: len(words & _words(each.rpartition(".")[2])) / len(_words(each)) for each in known}
    best = max(known, key=lambda each: shared[each], default=None)
    if best is not None and shared[best] > 0:
        return best
    near = difflib.get_close_matches(path, known, n=1, cutoff=_LIKENESS)
    return near[0] if near else None


def _words(name: str) -> set[str]:
    return set(name.replace(".", "_").split("_"))


def open_paths() -> list[str]:
    """Return the paths of all fields that can be searched."""
    found = [
        f"{block}.{name}"
        for block in _BLOCKS
        for model in _models_in(FineTuneSpec.model_fields[block].annotation)
        for name in model.model_fields
    ]
    return [path for path in found if path not in _OF_CURVES]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
