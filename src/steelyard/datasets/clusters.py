"""Groups of rows that pairs link, direct or by way of others."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Clusters:
    """A partition of rows 0..count-1; each group is known by its least row. Not safe for threads."""

    def __init__(self, count: int) -> None:
        self._least = np.arange(count, dtype=np.int64)

    @property
    def least(self) -> Rows:
        """The least row of each row's group."""
        return self._least

    def together(self, left: Rows, right: Rows) -> "NDArray[np.bool_]":
        """Whether both rows of each pair are in one group."""
        return self._least[left] == self._least[right]

    def join(self, left: Rows, right: Rows) -> None:
        """Unite the groups of each pair. The result doesn't depend on the order of pairs."""
        least = self._least
        while len(left):
            low, high = np.minimum(least[left], least[right]), np.maximum(least[left], least[right])
            apart = low != high
            left, right = left[apart], right[apart]
            np.minimum.at(least, high[apart], low[apart])
            least[:] = _roots(least)


def _roots(parents: Rows) -> Rows:
    """Follow each row to the least of its group, halving the way each time."""
    while True:
        grand = parents[parents]
        if np.array_equal(grand, parents):
            return parents
        parents = grand
