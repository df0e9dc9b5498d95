# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""YAML and JSON as job specs are written: YAML 1.2's scalars, each key once, and a line for every path.

PyYAML reads YAML 1.1, where `2e-4` is text, `no` is false and `12:30` is 750. Here numbers, `true`,
`false` and `null` are read as in JSON, and anything else is text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import yaml

from steelyard.kit.errors import InvalidSpec
from steelyard.specs.faults import FieldPath


def parse_spec_text(text: str, source: str) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    """Parse YAML or JSON into a mapping, and the line (from 1) on which each field's key stands.

    Raises:
        InvalidSpec: not YAML, more than one document, a key twice, a key that isn't text, or no mapping
            at the top. The message begins with `source:line`.
    """
    lines: dict[FieldPath, int] = {}
    try:
        node = yaml.compose(text, Loader=_SpecLoader)
        if node is None:
            raise InvalidSpec(f"{source}: the file is empty; `steelyard schema` shows what belongs in it.")
        _note_lines(node, (), lines, source, frozenset())
        value = _parse_json(text)
        value = _construct(node) if value is None else value
    except yaml.YAMLError as cause:
        value = _parse_json_alone(text, source, cause)
    if not isinstance(value, dict):
        raise InvalidSpec(f"{source}:1: a job spec is a mapping (`type: fine_tune` ...), not a list or text.")
    return cast("dict[str, Any]", value), lines


def parse_scalar(text: str) -> Any:
    """Parse the right side of a `--set`: a number, true, false, null, text, `[...]` or `{...}`.

    Raises:
        InvalidSpec: brackets or quotes that aren't closed, or a key twice.
    """
    try:
        node = yaml.compose(text, Loader=_SpecLoader)
        if node is None:
            return None
        _note_lines(node, (), {}, "the value", frozenset())
        return _construct(node)
    except yaml.YAMLError as cause:
        problem = _problem(cause)
        raise InvalidSpec(f"the value {text!r} can't be read ({problem}); put it in quotes.") from None


def format_path(path: FieldPath) -> str:
    """Write a path as errors name it: `evaluation.gates.0.min`."""
    return ".".join(map(str, path))


class _SpecLoader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2 (section 10.3.2) in place of 1.1's."""


_SpecLoader.yaml_implicit_resolvers = {}  # else the first addition copies YAML 1.1's


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    for prefix, base in (("0o", 8), ("0x", 16)):
        if text.startswith(prefix):
            return int(text[2:], base)
    return int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))


def _construct_bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return node.value.lower() == "true"


_CORE: tuple[tuple[str, str, str], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("merge", r"^<<$", "<"),
)
for _tag, _pattern, _first in _CORE:
    _SpecLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), ["" if c == "\0" else c for c in _first]
    )
_SpecLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_SpecLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_SpecLoader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)


def _note_lines(
    node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], source: str, above: frozenset[int]
) -> None:
    """Walk the tree: note each field's line, refuse doubled keys, odd keys and loops."""
    here = node.start_mark.line + 1
    lines.setdefault(path, here)
    if id(node) in above:
        _refuse(source, here, "an alias refers to the block that it stands in")
    below = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), lines, source, below)
    elif isinstance(node, yaml.MappingNode):
        _note_mapping(node, path, lines, source, below)


def _note_mapping(
    node: yaml.MappingNode, path: FieldPath, lines: dict[FieldPath, int], source: str, above: frozenset[int]
) -> None:
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            _note_lines(value, (*path, "<<"), lines, source, above)
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            _refuse(source, line, f"the key {getattr(key, 'value', '?')!r} isn't text; put it in quotes")
        name = str(key.value)
        if name in first_lines:
            full = format_path((*path, name))
            _refuse(source, line, f"{full} is given twice, first on line {first_lines[name]}; keep one", full)
        first_lines[name] = line
        lines[(*path, name)] = line
        _note_lines(value, (*path, name), lines, source, above)


def _construct(node: yaml.Node) -> Any:
    loader = _SpecLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _parse_json(text: str) -> Any:
    """Read what is JSON as JSON: PyYAML reads its pairs of `\\u` escapes as two halves of a character."""
    if text.lstrip()[:1] != "{":
        return None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return None


def _parse_json_alone(text: str, source: str, yaml_problem: yaml.YAMLError) -> Any:
    """Read what YAML could not: JSON with tabs, for one. Where that fails too, YAML's complaint counts."""
    if text.lstrip()[:1] != "{":
        _refuse(source, _line_of(yaml_problem), f"not YAML: {_problem(yaml_problem)}")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as cause:
        _refuse(source, cause.lineno, f"not JSON: {cause.msg}")
    except ValueError as cause:
        _refuse(source, None, str(cause))


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{name} is given twice; keep one")
        made[name] = value
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _line_of(problem: yaml.YAMLError) -> int | None:
    mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
    return mark.line + 1 if isinstance(mark, yaml.Mark) else None


def _problem(problem: yaml.YAMLError) -> str:
    return str(getattr(problem, "problem", None) or problem).strip()


def _refuse(source: str, line: int | None, why: str, param: str | None = None) -> NoReturn:
    place = source if line is None else f"{source}:{line}"
    raise InvalidSpec(f"{place}: {why}.", param=param)
