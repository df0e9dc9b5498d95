"""Which prompts a step answers: a pure function of seed and step, so that resuming needs no state for it."""

import random
from functools import lru_cache
from math import ceil


class PromptOrder:
    """Passes over `count` prompts one after another, each in an order of its own."""

    def __init__(self, count: int, per_step: int, seed: int) -> None:
        self._count = count
        self._per_step = per_step
        self._seed = seed
        self._pass = lru_cache(maxsize=2)(self._shuffled)

    def of_step(self, step: int) -> list[int]:
        """Return the places of the prompts of `step`, which counts from 1."""
        first = (step - 1) * self._per_step
        return [
            self._pass(index // self._count)[index % self._count]
            for index in range(first, first + self._per_step)
        ]

    def steps_of(self, passes: float) -> int:
        """Return the number of steps that so many passes take."""
        return max(1, ceil(passes * self._count / self._per_step))

    def _shuffled(self, number: int) -> list[int]:
        places = list(range(self._count))
        random.Random(f"{self._seed}/{number}").shuffle(places)  # noqa: S311 - order of prompts
        return places
