"""What an evaluating attempt is told to do; where nobody told it the cells, it works them out itself."""

from dataclasses import dataclass
from pathlib import Path

from steelyard.kit.canonical import digest_json
from steelyard.runtime.failures import bad_config
from steelyard.runtime.manifests import read_manifest
from steelyard.specs.blocks import EndpointBlock, EvaluationBlock, ModelBlock
from steelyard.specs.cells import Contestant, endpoint_digest, plan_cells
from steelyard.specs.evaluations import BUILT_IN_SUITES, Cell, SuiteFolder
from steelyard.specs.job import EvalOnlySpec
from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.specs.run import DatasetFiles, RunConfig
from steelyard.specs.states import Reason
from steelyard.trainers.model import is_adapter


@dataclass(frozen=True)
class Orders:
    """What a run must name for this stage."""

    run: RunConfig
    evaluation: EvaluationBlock
    cells: list[Cell]
    suites: dict[str, SuiteFolder]
    model: ModelBlock | None
    endpoint: EndpointBlock | None
    base_adapter: Path | None
    tuned: Path | None
    dataset: DatasetFiles | None
    max_length: int

    @property
    def model_path(self) -> Path:
        """The base model's folder."""
        assert self.run.model_path is not None
        return Path(self.run.model_path)

    @property
    def tokenizer_path(self) -> Path:
        """The folder with the tokenizer."""
        return self.model_path


def read_orders(run: RunConfig | None) -> Orders:
    """Read a run's orders.

    Raises:
        RunFailure: the run names no model, no data, or no files of a suite.
    """
    if run is None or run.spec.evaluation is None:
        raise bad_config(Reason.BAD_CONFIG, "This stage needs a spec with an evaluation block.")
    spec = run.spec
    endpoint = spec.endpoint if isinstance(spec, EvalOnlySpec) else None
    if endpoint is None and (run.model_path is None or spec.model is None):
        raise bad_config(Reason.BAD_CONFIG, "run.json names no model folder: submit again.")
    if run.dataset is None and any(name in BUILT_IN_SUITES for name in run.spec.evaluation.suite_names):
        raise bad_config(Reason.BAD_CONFIG, "run.json names no dataset: submit again.")
    told = run.evaluation
    suites = {folder.name: folder for folder in told.suites} if told else {}
    return Orders(
        run=run,
        evaluation=run.spec.evaluation,
        cells=told.cells if told else _own_cells(run),
        suites=suites,
        model=spec.model,
        endpoint=endpoint,
        base_adapter=Path(run.base_adapter) if run.base_adapter else None,
        tuned=Path(run.tuned_model_dir) if run.tuned_model_dir else None,
        dataset=run.dataset,
        max_length=spec.max_length if isinstance(spec, EvalOnlySpec) else spec.training.max_length,
    )


def _own_cells(run: RunConfig) -> list[Cell]:
    """Cells for a run by hand, with no platform: digests are of what lies in the folders."""
    contestants: list[Contestant] = []
    if isinstance(run.spec, EvalOnlySpec) and run.spec.endpoint is not None:
        contestants.append(Contestant("base", endpoint_digest(run.spec.endpoint)))
    else:
        base = _digest_of(Path(str(run.model_path)))
        contestants.append(Contestant("base", base))
        if run.tuned_model_dir:
            tuned = Path(run.tuned_model_dir)
            contestants.append(Contestant("tuned", _digest_of(tuned), base if is_adapter(tuned) else None))
    data = {"digest": run.dataset.digest, "format": run.dataset.format} if run.dataset else None
    return plan_cells(run.spec, contestants, [], data)


def _digest_of(folder: Path) -> str:
    if (folder / MANIFEST_NAME).exists():
        return read_manifest(folder).digest()
    return digest_json(str(folder))
