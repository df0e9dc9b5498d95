"""Where in a document a fault is, as its author wrote it."""

from typing import Any, TypeAlias, cast

from pydantic_core import ErrorDetails

FieldPath: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the document's root to a field."""


class FieldFault(ValueError):
    """A rule over a whole spec is broken; `param` is the path of the field that mends it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def field_path(data: Any, fault: ErrorDetails) -> FieldPath:
    """Return the path as the user wrote it: Pydantic's also holds the names of the unions' branches."""
    if fault["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return (*_walk(data, fault["loc"]), _discriminator(fault))
    path = _walk(data, fault["loc"])
    if isinstance(broken := fault.get("ctx", {}).get("error"), FieldFault):
        return (*path, *broken.param.split("."))
    return (*path, fault["loc"][-1]) if fault["type"] == "missing" else path


def _walk(data: Any, location: tuple[int | str, ...]) -> FieldPath:
    path: FieldPath = ()
    block = data
    for part in location:
        if isinstance(block, dict) and part in block:
            block = cast("dict[Any, Any]", block)[part]
        elif isinstance(block, list) and isinstance(part, int) and part < len(cast("list[Any]", block)):
            block = cast("list[Any]", block)[part]
        else:
            continue
        path = (*path, part)
    return path


def _discriminator(fault: ErrorDetails) -> str:
    return str(fault.get("ctx", {}).get("discriminator", "type")).strip("'")
