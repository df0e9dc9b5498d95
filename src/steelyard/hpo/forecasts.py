"""What a search will do, said before it is submitted."""

from steelyard.hpo.sampling import propose
from steelyard.hpo.space import told
from steelyard.hpo.trials import key_of
from steelyard.specs.job import HpoSpec

_SHOWN_POINTS = 3


def forecast(spec: HpoSpec) -> list[str]:
    """Return sentences for people: how many trials, and the first of them."""
    block = spec.search
    at_once = min(block.trials, block.max_concurrent_trials)
    sentences = [
        f"{block.trials} trials at most, {at_once} at once; the best by {block.metric} ({block.direction}) is"
        f" registered as {spec.name}"
    ]
    if block.trials < block.max_trials:
        sentences.append(
            f"the grid has {block.trials} points, fewer than search.max_trials ({block.max_trials})"
        )
    if block.algorithm == "grid" and block.grid_size is not None and block.grid_size > block.max_trials:
        left_out = block.grid_size - block.max_trials
        sentences.append(
            f"search.max_trials leaves out the last {left_out} of the grid's {block.grid_size} points"
        )
    first = propose(block, [], range(min(_SHOWN_POINTS, block.trials)))
    sentences += [f"{key_of(number)}: {told(point)}" for number, point in first.items()]
    return sentences
