"""Which stages look at rows one by one, in their order, for a spec."""

from steelyard.datasets.columns import Layout
from steelyard.datasets.decontamination import Decontamination, EvaluationIndex
from steelyard.datasets.filters import EqualPairs, LengthFilter, QualityFilter
from steelyard.datasets.language import LanguageFilter
from steelyard.datasets.normalization import Normalization
from steelyard.datasets.personal import PersonalData
from steelyard.datasets.stages import RowStage
from steelyard.specs.datasets import DatasetSpec


def row_stages(spec: DatasetSpec, layout: Layout, evaluation: EvaluationIndex | None) -> list[RowStage]:
    """Return the stages that are on.

    Personal data is masked before rows are compared, so that rows which differ by it alone are equal.
    """
    stages: list[RowStage] = []
    if spec.normalize.enabled:
        stages.append(Normalization(spec.normalize))
    if spec.length.enabled:
        stages.append(LengthFilter(spec.length))
    if spec.language.enabled:
        stages.append(LanguageFilter(spec.language))
    if spec.quality.enabled:
        stages.append(QualityFilter(spec.quality))
    if spec.pii.action != "off":
        stages.append(PersonalData(spec.pii))
    if layout.format == "preference" and spec.preference.drop_equal:
        stages.append(EqualPairs(spec.preference))
    if spec.decontamination.enabled and evaluation is not None:
        stages.append(Decontamination(spec.decontamination, evaluation))
    return stages
