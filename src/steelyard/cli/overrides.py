"""`--set training.max_steps=10`: fields of a spec replaced from the command line."""

import copy
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from steelyard.client.spec_file import SpecFile
from steelyard.client.spec_text import FieldPath, format_path, parse_scalar
from steelyard.kit.errors import InvalidSpec

_SEGMENT = re.compile(r'"([^"]*)"|\[(\d+)\]|([^.\[\]"]+)')


class Segment(NamedTuple):
    """One part of a dotted path. A quoted one is a key, whatever it looks like."""

    text: str
    quoted: bool


def apply_overrides(spec: SpecFile, assignments: Sequence[str]) -> SpecFile:
    """Return the spec with each `path=value` put in, in order; blocks on the way are made.

    A value is read as YAML (`10`, `2e-4`, `true`, `[a, b]`, text). A path is dotted; lists take indexes,
    from 0, and the index after the last appends. Keys that hold dots are found where they exist
    (`search.parameters.training.learning_rate.low`) and made with quotes (`tags."a.b"`).

    Raises:
        InvalidSpec: no `=`, a value that can't be read, or a path through something that has no fields.
    """
    data = copy.deepcopy(spec.data)
    origins = dict(spec.origins)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidSpec(f"--set {assignment}: give a path and a value, as in training.max_steps=10.")
        try:
            path = _assign(data, _segments(name.strip()), parse_scalar(text))
        except InvalidSpec as error:
            raise InvalidSpec(f"--set {assignment}: {error.message}", param=name.strip()) from None
        origins[path] = f"--set {assignment}"
    return SpecFile(data, spec.source, spec.folder, spec.lines, origins)


def _segments(name: str) -> list[Segment]:
    found: list[Segment] = []
    position = 0
    while position < len(name):
        match = _SEGMENT.match(name, position)
        if match is None:
            raise InvalidSpec(f"the path {name!r} can't be read; it looks like training.max_steps")
        quoted, index, plain = match.groups()
        found.append(Segment(quoted if quoted is not None else index or plain, quoted is not None))
        position = match.end()
        if name[position : position + 1] == ".":
            position += 1
    if not found or name.endswith("."):
        raise InvalidSpec(f"the path {name!r} has no field at its end; it looks like training.max_steps")
    return found


def _assign(data: dict[str, Any], segments: list[Segment], value: Any) -> FieldPath:
    """Walk to the last segment, making blocks on the way, and set it. Return the path that was walked."""
    block: Any = data
    path: FieldPath = ()
    while True:
        key, used = _find_key(block, segments, path)
        path, segments = (*path, key), segments[used:]
        if not segments:
            _put(block, key, value)
            return path
        inner = _get(block, key)
        if inner is None:
            inner = _new_block(segments[0])
            _put(block, key, inner)
        block = inner


def _new_block(first: Segment) -> Any:
    return [] if first.text.isdecimal() and not first.quoted else {}


def _find_key(block: Any, segments: list[Segment], path: FieldPath) -> tuple[str | int, int]:
    """Return the key that the next segments name, and how many of them it took."""
    first = segments[0]
    if isinstance(block, list):
        size = len(cast("list[Any]", block))
        if first.quoted or not first.text.isdecimal() or int(first.text) > size:
            raise InvalidSpec(f"{format_path(path)} is a list of {size}; {first.text!r} is no index of it")
        return int(first.text), 1
    if not isinstance(block, dict):
        raise InvalidSpec(f"{format_path(path)} is {block!r} and has no field {first.text!r}")
    for used in range(len(segments), 1, -1):
        joined = ".".join(segment.text for segment in segments[:used])
        if joined in block:
            return joined, used
    return first.text, 1


def _get(block: Any, key: str | int) -> Any:
    if isinstance(key, int):
        items = cast("list[Any]", block)
        return items[key] if key < len(items) else None
    return cast("dict[str, Any]", block).get(key)


def _put(block: Any, key: str | int, value: Any) -> None:
    if isinstance(key, int) and key == len(cast("list[Any]", block)):
        cast("list[Any]", block).append(value)
    else:
        block[key] = value
