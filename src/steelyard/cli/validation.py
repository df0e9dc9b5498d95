"""A spec checked on this side, so that an error is instant and names file, line and field."""

import difflib
import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from steelyard.client.spec_file import SpecFile
from steelyard.client.spec_text import format_path
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.faults import FieldPath, field_path
from steelyard.specs.job import JOB_SPEC, SPEC_CLASSES

_MAX_SHOWN = 8


def validate_spec(spec: SpecFile) -> None:
    """Check a spec by the same models as the platform does.

    Raises:
        InvalidSpec: one line per fault, each with its place; `details["faults"]` holds them all.
    """
    try:
        text = json.dumps(spec.data, allow_nan=False)
    except ValueError:
        raise InvalidSpec(f"{spec.source}: .inf and .nan are no values of any field.") from None
    try:
        JOB_SPEC.validate_json(text)
    except ValidationError as error:
        raise _invalid(spec, error) from None


def _invalid(spec: SpecFile, error: ValidationError) -> InvalidSpec:
    faults: dict[tuple[str, str], str] = {}
    for fault in error.errors(include_url=False):
        path = field_path(spec.data, fault)
        faults[format_path(path), _sentence(spec.data, path, fault)] = spec.place(path)
    shown = [f"{place}: {f'{name}: ' if name else ''}{text}" for (name, text), place in faults.items()]
    if len(shown) > _MAX_SHOWN:
        shown = [*shown[:_MAX_SHOWN], f"... and {len(shown) - _MAX_SHOWN} more"]
    return InvalidSpec(
        "\n".join(shown),
        param=next(iter(faults))[0] or None,
        faults=[{"param": name, "message": text, "place": place} for (name, text), place in faults.items()],
    )


def _sentence(data: dict[str, Any], path: FieldPath, fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_not_found":
        return f"is missing; one of {', '.join(SPEC_CLASSES)}" if len(path) == 1 else "is missing"
    if kind == "union_tag_invalid":
        expected = fault.get("ctx", {}).get("expected_tags", "")
        return f"{fault.get('ctx', {}).get('tag')!r} is none of {expected}"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _siblings(data, path), n=1)
        return "is no field here" + (f"; did you mean {near[0]}?" if near else "")
    return fault["msg"].removeprefix("Value error, ")


def _siblings(data: dict[str, Any], path: FieldPath) -> list[str]:
    """Return the names of the fields that a block may have."""
    models: list[type[BaseModel]] = [SPEC_CLASSES[data["type"]]]
    for part in path[:-1]:
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        inner = [found for field in fields for found in _models_in(field.annotation)]
        # An index, or a key of a mapping, stays with the models found so far.
        models = inner or models
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
