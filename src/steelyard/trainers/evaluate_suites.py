"""Which workload a suite's name stands for."""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import bad_config
from steelyard.specs.evaluations import is_built_in
from steelyard.specs.safety import is_safety_suite
from steelyard.specs.states import Reason
from steelyard.trainers.evaluate_builtin import Choices, Heldout
from steelyard.trainers.evaluate_orders import Orders
from steelyard.trainers.evaluate_tasks import Tasks
from steelyard.trainers.evaluate_workload import Workload
from steelyard.trainers.rows import read_rows
from steelyard.trainers.safety.suites import load_safety
from steelyard.trainers.suites import first_rows

_BUILT_IN = {"heldout": Heldout, "choices": Choices}


def load_workload(
    name: str,
    orders: Orders,
    tokenizer: PreTrainedTokenizerBase | None,
    scratch: Path,
    read_secret: Callable[[str], str],
) -> Workload:
    """Read a suite's samples.

    Args:
        read_secret: returns a secret of the job, for a judge behind an api.

    Raises:
        RunFailure: its data or files are not what it needs.
    """
    if is_safety_suite(name):
        block = orders.evaluation
        own = None if orders.endpoint is not None else tokenizer
        rows = [Path(each) for each in orders.dataset.train] if orders.dataset else None
        return load_safety(name, block.safety, block.max_samples, own, read_secret, rows)
    if not is_task_suite(name):
        assert tokenizer is not None
        assert orders.dataset is not None
        shape = orders.dataset.format
        rows = read_rows(orders.dataset.validation, shape, "validation")
        used = first_rows(rows, orders.evaluation.max_samples)
        return _BUILT_IN[name](used, shape, tokenizer, orders.max_length)
    folder = orders.suites.get(name)
    if folder is None:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"run.json names no folder for suite {name}: submit again.",
            param="evaluation.suites",
        )
    return Tasks(folder, orders.evaluation, scratch)


def is_task_suite(name: str) -> bool:
    """Whether the engine runs it, rather than the platform itself."""
    return not is_built_in(name)
