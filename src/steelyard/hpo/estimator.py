"""Bayesian search: Optuna's tree-structured Parzen estimator, as a function of the recorded trials.

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011. Optuna's study lives for one call
and holds what the records say; each trial has a sampler of its own seed. So nothing is lost with a process,
and nothing has to be held in step with our tables. Trials at work count as bad ones where they are
(the constant liar), so that trials at once don't gather in one place.

Where trials are pruned, the estimator sees the highest rung that has enough results, each trial with its
value at that rung (the idea of BOHB: Falkner et al., ICML 2018): values at different steps don't compare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from steelyard.hpo.curves import rungs_up_to
from steelyard.hpo.sampling import seed_of
from steelyard.hpo.space import Point, Value, ends, grid_value, ordered, rounded
from steelyard.hpo.stopping import value_at
from steelyard.hpo.trials import Trial, loss_of
from steelyard.specs.search import Choice, FloatRange, IntRange, Parameter, SearchBlock

_ENOUGH_RESULTS = 10
_STARTUP_TRIALS = 10
_MOST_SEEN = 500
_BEST_SEEN = 100
_SEED_BITS = 32


@dataclass(frozen=True)
class Seen:
    """A trial as the estimator is shown it. `loss` is None while the trial is at work."""

    point: Point
    loss: float | None


def estimated_points(block: SearchBlock, trials: Sequence[Trial], numbers: Sequence[int]) -> dict[int, Point]:
    """Return the points of new trials; each one that is drawn counts as at work for those after it."""
    seen = view(block, trials)
    points: dict[int, Point] = {}
    for number in sorted(numbers):
        points[number] = _ask(block, seen, number)
        seen = [*seen, Seen(points[number], None)]
    return points


def view(block: SearchBlock, trials: Sequence[Trial]) -> list[Seen]:
    """Return what the estimator is shown: results that compare with each other, and trials at work."""
    results = _results(block, trials)
    found: list[Seen] = []
    for trial in trials:
        if trial.number in results:
            found.append(Seen(trial.point, results[trial.number]))
        elif trial.is_hopeless:
            found.append(Seen(trial.point, math.inf))
        elif not trial.is_over:
            found.append(Seen(trial.point, None))
    return _bounded([each for each in found if each.point.keys() == block.parameters.keys()])


def _results(block: SearchBlock, trials: Sequence[Trial]) -> dict[int, float]:
    """Return number -> loss, at the trials' ends or at the highest rung that has enough of them."""
    final = {
        trial.number: loss_of(block, trial.value)
        for trial in trials
        if trial.is_over and trial.value is not None
    }
    if block.pruning.type == "none" or len(final) >= _ENOUGH_RESULTS:
        return final
    levels = [final]
    furthest = max((trial.curve[-1][0] for trial in trials if trial.curve), default=0)
    for rung in reversed(rungs_up_to(block.pruning, furthest)):
        found = {trial.number: value_at(trial.curve, rung) for trial in trials if trial.curve}
        levels.append({number: value for number, value in found.items() if value is not None})
    enough = (level for level in levels if len(level) >= _ENOUGH_RESULTS)
    return next(enough, max(levels, key=len))


def _bounded(seen: list[Seen]) -> list[Seen]:
    """Keep the best and the newest: the cost of a draw grows with what is seen."""
    if len(seen) <= _MOST_SEEN:
        return seen
    by_loss = sorted(range(len(seen)), key=lambda at: math.inf if (loss := seen[at].loss) is None else loss)
    kept = set(by_loss[:_BEST_SEEN]) | set(range(len(seen) - _MOST_SEEN + _BEST_SEEN, len(seen)))
    return [seen[at] for at in sorted(kept)]


def _ask(block: SearchBlock, seen: Sequence[Seen], number: int) -> Point:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    startup = min(_STARTUP_TRIALS, max(2, block.trials // 4))
    sampler = optuna.samplers.TPESampler(
        seed=seed_of(block.seed, number, _SEED_BITS), n_startup_trials=startup, constant_liar=True
    )
    study = optuna.create_study(sampler=sampler, direction="minimize")
    space = {path: _distribution(parameter) for path, parameter in ordered(block)}
    for each in seen:
        study.add_trial(_record(block, space, each))
    drawn = study.ask(space).params
    return {path: _outer(parameter, drawn[path]) for path, parameter in ordered(block)}


def _record(block: SearchBlock, space: dict[str, BaseDistribution], seen: Seen) -> FrozenTrial:
    params = {path: _inner(parameter, seen.point[path]) for path, parameter in ordered(block)}
    if seen.loss is None:
        return create_trial(state=TrialState.RUNNING, params=params, distributions=space)
    return create_trial(value=seen.loss, params=params, distributions=space)


def _distribution(parameter: Parameter) -> BaseDistribution:
    """A choice is drawn by its index, because Optuna takes 1 and true for one value."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(range(len(parameter.values)))
    first, last = ends(parameter)[0], ends(parameter)[-1]
    if isinstance(parameter, IntRange):
        return IntDistribution(cast("int", first), cast("int", last), log=parameter.log, step=parameter.step)
    return FloatDistribution(
        cast("float", first), cast("float", last), log=parameter.log, step=parameter.step
    )


def _inner(parameter: Parameter, value: Value) -> Value:
    if not isinstance(parameter, Choice):
        return value
    return [repr(each) for each in parameter.values].index(repr(value))


def _outer(parameter: Parameter, drawn: Any) -> Value:
    if isinstance(parameter, Choice):
        return parameter.values[int(drawn)]
    if isinstance(parameter, FloatRange):
        if parameter.step is None:
            return rounded(parameter, drawn)
        return grid_value(parameter, round((drawn - parameter.low) / parameter.step))
    return int(drawn)
