"""Which stages look at rows one by one, in their order, for a spec."""

from steelyard.datasets.decontamination import Decontamination, EvaluationIndex
from steelyard.datasets.normalization import Normalization
from steelyard.datasets.stages import RowStage
from steelyard.specs.datasets import DatasetSpec


def row_stages(spec: DatasetSpec, evaluation: EvaluationIndex | None) -> list[RowStage]:
    """Return the stages that are on."""
    stages: list[RowStage] = []
    if spec.normalize.enabled:
        stages.append(Normalization(spec.normalize))
    if spec.decontamination.enabled and evaluation is not None:
        stages.append(Decontamination(spec.decontamination, evaluation))
    return stages
