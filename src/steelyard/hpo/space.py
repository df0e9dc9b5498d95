"""The points of a search: paths of a trial's fields -> values, and how they are put into its spec.

Parameters are taken in the order of their paths, because a stored spec keeps no other order of keys.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from steelyard.specs.search import Choice, FloatRange, IntRange, Parameter, SearchBlock

Value: TypeAlias = str | int | float | bool
Point: TypeAlias = dict[str, Value]
"""Path of the trial's field -> its value."""


def ordered(block: SearchBlock) -> list[tuple[str, Parameter]]:
    """Return the parameters in the order that everything here goes by."""
    return sorted(block.parameters.items())


def grid_point(block: SearchBlock, number: int) -> Point:
    """Return a point of the grid, counted from 0; the last parameter varies fastest.

    Raises:
        IndexError: the grid has no such point.
        ValueError: a range has no step.
    """
    point: Point = {}
    left = number
    for path, parameter in reversed(ordered(block)):
        size = parameter.size
        if size is None:
            raise ValueError(f"{path} has no step")
        left, index = divmod(left, size)
        point[path] = grid_value(parameter, index)
    if left or number < 0:
        raise IndexError(f"the grid has no point {number}")
    return dict(reversed(point.items()))


def grid_value(parameter: Parameter, index: int) -> Value:
    """Return a value of a parameter's grid, counted from 0. In decimals: 0.1, 0.2, 0.3."""
    if isinstance(parameter, Choice):
        return parameter.values[index]
    if isinstance(parameter, IntRange):
        return parameter.low + index * parameter.step
    if parameter.step is None:
        raise ValueError("a range without step has no grid")
    return float(Decimal(str(parameter.low)) + index * Decimal(str(parameter.step)))


def ends(parameter: Parameter) -> list[Value]:
    """Return both ends of a range (of its grid, where it has one), and every value of a choice."""
    if isinstance(parameter, Choice):
        return list(parameter.values)
    if isinstance(parameter, FloatRange) and parameter.size is None:
        return [parameter.low, parameter.high]
    last = grid_value(parameter, (parameter.size or 1) - 1)
    first = grid_value(parameter, 0)
    return [first] if first == last else [first, last]


def rounded(parameter: FloatRange, value: float) -> float:
    """Return a drawn number as people would write it: six digits, within its bounds."""
    return min(max(float(f"{value:.6g}"), parameter.low), parameter.high)


def read_value(parameter: Parameter, value: Any) -> Value:
    """Return a recorded value in its own type: a database may give 1 back for 1.0."""
    return float(value) if isinstance(parameter, FloatRange) else value


def put(template: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return a spec (JSON) with a point's values in it; the template stays as it is."""
    spec = dict(template)
    for path, value in point.items():
        block, *inner = path.split(".")
        spec[block] = put(spec.get(block) or {}, {".".join(inner): value}) if inner else value
    return spec


def told(point: Mapping[str, Value]) -> str:
    """Return a point in words."""
    return ", ".join(f"{path}={value}" for path, value in sorted(point.items()))
