"""Which values the next trial gets: a function of the spec, the trial's number, and the trials so far."""

import hashlib
import math
import random
from collections.abc import Sequence

from steelyard.hpo.space import Point, Value, grid_point, grid_value, ordered, rounded
from steelyard.hpo.trials import Trial
from steelyard.specs.search import Choice, FloatRange, Parameter, SearchBlock


def propose(block: SearchBlock, trials: Sequence[Trial], numbers: Sequence[int]) -> dict[int, Point]:
    """Return the points of new trials, by number. The same trials give the same points, always.

    Args:
        block: the search.
        trials: all that there are; those at work count as well.
        numbers: of the trials to be made.
    """
    if block.algorithm == "grid":
        return {number: grid_point(block, number) for number in numbers}
    if block.algorithm == "random":
        return {number: random_point(block, number) for number in numbers}
    # A quarter of a second and 40 MB, which a process that only reads jobs need not pay.
    from steelyard.hpo.estimator import estimated_points  # noqa: PLC0415 - the one seam to optuna

    return estimated_points(block, trials, numbers)


def random_point(block: SearchBlock, number: int) -> Point:
    """Return the point of a trial, drawn from a generator of its own."""
    generator = random.Random(seed_of(block.seed, number))  # noqa: S311 - draws, no secrets
    return {path: _draw(parameter, generator.random()) for path, parameter in ordered(block)}


def seed_of(seed: int, number: int, bits: int = 64) -> int:
    """Return the seed of a trial's own generator."""
    digest = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - bits)


def _draw(parameter: Parameter, share: float) -> Value:
    """Return the value at a share, 0 to 1, of a parameter's width."""
    if isinstance(parameter, FloatRange):
        if parameter.size is not None:
            return grid_value(parameter, int(share * parameter.size))
        if parameter.log:
            low, high = math.log(parameter.low), math.log(parameter.high)
            return rounded(parameter, math.exp(low + share * (high - low)))
        return rounded(parameter, parameter.low + share * (parameter.high - parameter.low))
    if isinstance(parameter, Choice) or not parameter.log:
        return grid_value(parameter, int(share * parameter.size))
    # Half a unit beyond both ends, so that the ends are as likely as their neighbours.
    low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
    return min(max(round(math.exp(low + share * (high - low))), parameter.low), parameter.high)
