"""What is kept of a trial's curve, and at which steps it is judged."""

from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.search import CurveMetric, PruningBlock, SearchBlock

WHOLE_POINTS = 256
"""So many points of a curve are kept as they come, then every second, of twice as many every fourth, ...:
a curve of n points takes less than 256 + 128 log2(n / 256) rows, and what is judged."""


def curve_metric(block: SearchBlock, training: TrainingBlock) -> CurveMetric:
    """Return the figure whose curve a search keeps: what it prunes by, else its own, else what there is."""
    if block.pruning.metric is not None:
        return block.pruning.metric
    if block.metric == "eval/loss" or block.metric == "train/loss":
        return block.metric
    return "train/loss" if training.eval_steps is None else "eval/loss"


def spacing(metric: CurveMetric, training: TrainingBlock) -> int:
    """Return the steps between two points of a curve."""
    return training.logging_steps if metric == "train/loss" else training.eval_steps or training.logging_steps


def is_kept(pruning: PruningBlock, step: int, spacing_steps: int) -> bool:
    """Whether a point is worth a row. The same point has the same answer, whenever it comes."""
    count = -(-step // spacing_steps)
    stride = 1 << max(0, (max(count, 1) - 1).bit_length() - WHOLE_POINTS.bit_length() + 1)
    return count % stride == 0 or decides(pruning, step, spacing_steps)


def decides(pruning: PruningBlock, step: int, spacing_steps: int) -> bool:
    """Whether trials are judged by this point: it is the first at or after a judged step."""
    judged = judged_step(pruning, step)
    return judged is not None and judged > step - spacing_steps


def judged_step(pruning: PruningBlock, step: int) -> int | None:
    """Return the last step up to `step` at which trials are judged; None where there is none."""
    if pruning.type == "none" or step < pruning.min_steps:
        return None
    if pruning.type == "median":
        interval = pruning.interval_steps or pruning.min_steps
        return step - (step - pruning.min_steps) % interval
    return rungs_up_to(pruning, step)[-1]


def rungs_up_to(pruning: PruningBlock, step: int) -> list[int]:
    """Return ASHA's rungs up to a step: `min_steps * reduction_factor ** k`."""
    rungs: list[int] = []
    rung = pruning.min_steps
    while rung <= step:
        rungs.append(rung)
        rung *= pruning.reduction_factor
    return rungs
