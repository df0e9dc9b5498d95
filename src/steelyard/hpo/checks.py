"""What is wrong with a search, before its first trial. Rules in order; each finds a fault or nothing."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from steelyard.hpo.curves import curve_metric
from steelyard.hpo.metrics import LOSSES, is_measured, measured
from steelyard.hpo.paths import why_closed
from steelyard.hpo.space import Point, Value, ends, grid_point, ordered, put, told
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.blocks import LimitsBlock, ResourcesBlock
from steelyard.specs.job import FineTuneSpec, HpoSpec
from steelyard.specs.search import Choice, FloatRange, IntRange, Parameter

_MOST_PROBES = 1000
"""Points that are tried: a submission has to answer at once, and each trial is checked when it is made."""
_MOST_PARAMETERS = 64
_MOST_CHOICES = 256
_MOST_VALUES = 10**12


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the path of the field."""

    param: str
    message: str


Rule = Callable[[HpoSpec], Fault | None]


def require_searchable(spec: HpoSpec) -> None:
    """Refuse a search that can't work.

    Raises:
        InvalidSpec: it can't; `param` is the path of the field at fault.
    """
    for rule in _RULES:
        fault = rule(spec)
        if fault is not None:
            raise InvalidSpec(f"{fault.param}: {fault.message}", param=fault.param)


def _trials_have_the_resources(spec: HpoSpec) -> Fault | None:
    """A search holds no place itself, so what is said of it here would be passed over in silence."""
    if spec.resources != ResourcesBlock():
        return Fault("resources", "a search runs nothing itself; say under trial.resources what a trial gets")
    if spec.limits != LimitsBlock():
        return Fault("limits", "a search runs nothing itself; say under trial.limits what bounds a trial")
    if spec.trial.priority not in (500, spec.priority):
        return Fault("trial.priority", "all trials have the search's priority; leave it out here")
    if spec.trial.register_as is not None:
        return Fault(
            "trial.register_as", "the best model is registered under the search's name; leave it out"
        )
    return None


def _paths_are_open(spec: HpoSpec) -> Fault | None:
    for path, _ in ordered(spec.search):
        why = why_closed(path, spec.trial)
        if why is not None:
            return Fault(_param(path), why)
    return None


def _parameters_can_be_drawn(spec: HpoSpec) -> Fault | None:
    find = _fault_in_grid if spec.search.algorithm == "grid" else _fault_in_draws
    if len(spec.search.parameters) > _MOST_PARAMETERS:
        return Fault("search.parameters", f"a search has {_MOST_PARAMETERS} parameters at most")
    for path, parameter in ordered(spec.search):
        if isinstance(parameter, Choice) and (twice := _value_twice(parameter.values)) is not None:
            return Fault(f"{_param(path)}.values", f"names a value twice: {twice}")
        if isinstance(parameter, Choice) and len(parameter.values) > _MOST_CHOICES:
            return Fault(f"{_param(path)}.values", f"a choice has {_MOST_CHOICES} values at most")
        if parameter.size is not None and parameter.size > _MOST_VALUES:
            return Fault(_param(path), f"a range has {_MOST_VALUES:.0e} values at most; take a wider step")
        fault = find(_param(path), parameter)
        if fault is not None:
            return fault
    return None


def _value_twice(values: Sequence[Value]) -> str | None:
    """Return two values that are one to who reads them (1, 1.0 and true are), in words; None: all differ."""
    first: dict[Value, Value] = {}
    for value in values:
        if value in first:
            return f"{json.dumps(first[value])} and {json.dumps(value)}"
        first[value] = value
    return None


def _fault_in_grid(param: str, parameter: Parameter) -> Fault | None:
    if parameter.size is None:
        return Fault(f"{param}.step", "a grid search needs the step between two values")
    return None


def _fault_in_draws(param: str, parameter: Parameter) -> Fault | None:
    if isinstance(parameter, Choice) or not parameter.log:
        return None
    if parameter.step not in (None, 1) or (isinstance(parameter, FloatRange) and parameter.step is not None):
        return Fault(f"{param}.step", "a log range has no even steps; leave out log or step")
    if isinstance(parameter, IntRange) and parameter.low < 1:
        return Fault(f"{param}.low", "a log range needs low >= 1")
    return None


def _points_make_valid_trials(spec: HpoSpec) -> Fault | None:
    template = spec.trial.model_dump(mode="json")
    for point in _probes(spec):
        try:
            FineTuneSpec.model_validate_json(json.dumps(put(template, point)))
        except ValidationError as error:
            return _fault_of(point, error)
    return None


def _metric_is_measured(spec: HpoSpec) -> Fault | None:
    block = spec.search
    if is_measured(block.metric, spec.trial):
        return None
    can = ", ".join(measured(spec.trial))
    more = "" if spec.trial.evaluation else "; trial.evaluation.suites measures more"
    return Fault("search.metric", f"a trial doesn't measure {block.metric}; it measures {can}{more}")


def _losses_are_minimized(spec: HpoSpec) -> Fault | None:
    if spec.search.metric in LOSSES and spec.search.direction == "maximize":
        return Fault("search.direction", f"{spec.search.metric} is a loss; write minimize")
    return None


def _pruning_has_a_curve(spec: HpoSpec) -> Fault | None:
    block = spec.search
    if block.pruning.type == "none":
        return None
    name = block.pruning.metric or block.metric
    if name not in LOSSES:
        return Fault(
            "search.pruning.metric",
            f"{name} is known at a trial's end only; prune by eval/loss (with trial.training.eval_steps) or"
            " train/loss",
        )
    if name == "eval/loss" and spec.trial.training.eval_steps is None:
        return Fault("trial.training.eval_steps", "pruning by eval/loss needs the steps between two looks")
    if not is_measured(name, spec.trial):
        return Fault("search.pruning.metric", f"method {spec.trial.method} tells no {name} on its way")
    return None


def _pruning_comes_in_time(spec: HpoSpec) -> Fault | None:
    block, training = spec.search, spec.trial.training
    steps = training.max_steps
    if block.pruning.type == "none" or steps is None or "training.max_steps" in block.parameters:
        return None
    if block.pruning.min_steps >= steps:
        return Fault(
            "search.pruning.min_steps",
            f"no trial would ever be pruned: a trial has {steps} steps; set it below that",
        )
    every = training.eval_steps
    if curve_metric(block, training) == "eval/loss" and every is not None and every >= steps:
        return Fault("trial.training.eval_steps", f"the first look is at the last of {steps} steps")
    return None


_RULES: tuple[Rule, ...] = (
    _trials_have_the_resources,
    _paths_are_open,
    _parameters_can_be_drawn,
    _points_make_valid_trials,
    _metric_is_measured,
    _losses_are_minimized,
    _pruning_has_a_curve,
    _pruning_comes_in_time,
)


def _probes(spec: HpoSpec) -> Iterator[Point]:
    """Give points to try: all of a small grid; else all combinations of ends; else each value by itself."""
    block = spec.search
    if block.algorithm == "grid" and block.trials <= _MOST_PROBES:
        return (grid_point(block, number) for number in range(block.trials))
    values = {path: ends(parameter) for path, parameter in ordered(block)}
    if math.prod(len(each) for each in values.values()) <= _MOST_PROBES:
        return (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))
    return itertools.islice(_one_by_one(values), _MOST_PROBES)


def _one_by_one(values: dict[str, list[Value]]) -> Iterator[Point]:
    for place in (0, -1):
        base: Point = {path: each[place] for path, each in values.items()}
        for path, each in values.items():
            yield from ({**base, path: value} for value in each)


def _fault_of(point: Point, error: ValidationError) -> Fault:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    said = fault["msg"].removeprefix("Value error, ")
    path = next((path for path in point if where == path or where.startswith(f"{path}.")), None)
    if path is not None:
        return Fault(_param(path), f"{point[path]!r} is no value of {path}: {said}")
    return Fault("search.parameters", f"a trial with {told(point)} would be invalid: {said}")


def _param(path: str) -> str:
    return f"search.parameters.{path}"
