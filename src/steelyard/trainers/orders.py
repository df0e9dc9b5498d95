"""What a run must name for a trainer of models."""

from dataclasses import dataclass
from pathlib import Path

from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import ModelBlock
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.run import DatasetFiles, RunConfig
from steelyard.specs.states import Reason


@dataclass(frozen=True)
class Orders:
    """A run with a model and rows."""

    run: RunConfig
    spec: FineTuneSpec
    model: ModelBlock
    model_path: Path
    dataset: DatasetFiles


def read_orders(run: RunConfig | None) -> Orders:
    """Return what `run` names.

    Raises:
        RunFailure: it is no fine-tune, or names no model folder or no rows.
    """
    if run is None or not isinstance(run.spec, FineTuneSpec) or run.spec.model is None:
        raise bad_config(Reason.BAD_CONFIG, "This trainer runs fine_tune specs with a model block.")
    if run.model_path is None or run.dataset is None:
        raise bad_config(Reason.BAD_CONFIG, "run.json names no model folder or no dataset: submit again.")
    return Orders(run, run.spec, run.spec.model, Path(run.model_path), run.dataset)
