"""Suites of tasks, with lm-evaluation-harness as the engine: its task files, prompts, filters and metrics.

The engine's own loop runs all samples or none. Here its parts are called shard by shard; the figures are
those of its loop, which a contract test compares.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

import contextlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets.config
import huggingface_hub.constants
from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import utils as engine_utils
from lm_eval.api.metrics import mean
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from steelyard.kit.canonical import canonical_json
from steelyard.runtime.failures import bad_config
from steelyard.specs.blocks import EvaluationBlock
from steelyard.specs.evaluations import LIBRARY_PREFIX, LM_EVAL_VERSION, Figure, SuiteFolder
from steelyard.specs.states import Reason
from steelyard.trainers.evaluate_workload import Measure, Record, Workload, name_samples

_FEWSHOT_SEED = 1234
"""lm-evaluation-harness's own default."""
_BOOTSTRAPS = 100


@dataclass(frozen=True)
class _Place:
    task: str
    index: int


class Tasks(Workload):
    """All tasks of a suite's folder, or one task of the engine's library.

    Args:
        scratch: folder for the engine's copies of the data.
    """

    def __init__(self, folder: SuiteFolder, block: EvaluationBlock, scratch: Path) -> None:
        self.suite = folder.name
        self._block = block
        self._tasks = _load(folder, scratch)
        found: list[tuple[int, _Place, str]] = []
        self._documents: dict[_Place, Any] = {}
        for name in sorted(self._tasks):
            documents = _documents(self._tasks[name], block.max_samples)
            ids = name_samples([[name, document] for document in documents])
            for index, document in enumerate(documents):
                place = _Place(name, index)
                self._documents[place] = document
                found.append((len(json.dumps(document)), place, ids[index]))
        # Questions of a like length together: little is padded, as where all are sorted at once.
        found.sort(key=lambda each: (each[1].task, each[0], each[1].index))
        self._places = [place for _, place, _ in found]
        self.sample_ids = [sample_id for _, _, sample_id in found]

    def open(self, model: Any) -> Measure:
        """Return what measures samples with an `lm_eval` model."""
        requests = self._build_requests(model)
        return lambda places: [
            record
            for name, group in _by_task(places, self._places)
            for record in self._measure(model, name, group, requests)
        ]

    def figures(self, records: Sequence[Record]) -> list[Figure]:
        """Return the engine's figures of each task, and of all together where there are several."""
        by_task: dict[str, list[Record]] = defaultdict(list)
        for record in sorted(records, key=lambda each: (each.task, each.index)):
            by_task[record.task].append(record)
        several = len(self._tasks) > 1
        found: list[Figure] = []
        for name, mine in by_task.items():
            prefix = f"{name}." if several else ""
            found += [each.model_copy(update={"name": prefix + each.name}) for each in self._of(name, mine)]
        return found + (_pooled(found, by_task) if several else [])

    def _of(self, name: str, records: Sequence[Record]) -> list[Figure]:
        task = self._tasks[name]
        aggregation, better = task.aggregation(), task.higher_is_better()
        found: list[Figure] = []
        for metric in sorted({key for each in records for key in (*each.values, *each.raw)}):
            base = metric.partition("@")[0]
            items = [_item(each, metric) for each in records if metric in each.values or metric in each.raw]
            found.append(_figure(metric, items, aggregation.get(base, mean), better.get(base, True)))
        return found

    def _build_requests(self, model: Any) -> dict[_Place, list[Any]]:
        found: dict[_Place, list[Any]] = defaultdict(list)
        chat = self._block.apply_chat_template
        for name, task in self._tasks.items():
            if self._block.num_fewshot is not None:
                task.set_config(key="num_fewshot", value=self._block.num_fewshot)
            elif task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_FEWSHOT_SEED)
            task.build_all_requests(
                limit=self._block.max_samples,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                chat_template=model.apply_chat_template if chat else None,
                tokenizer_name=model.tokenizer_name if chat else "",
            )
            for instance in task.instances:
                found[_Place(name, instance.doc_id)].append(instance)
        for instances in found.values():
            instances.sort(key=lambda each: each.idx)
        return found

    def _measure(
        self, model: Any, name: str, places: Sequence[int], requests: dict[_Place, list[Any]]
    ) -> list[Record]:
        mine = [requests[self._places[place]] for place in places]
        _run(model, [instance for instances in mine for instance in instances])
        task = self._tasks[name]
        for ensemble in task._filters:
            ensemble.apply([instance for instances in mine for instance in instances])
        return [self._record(task, place, found) for place, found in zip(places, mine, strict=True)]

    def _record(self, task: Any, place: int, instances: list[Any]) -> Record:
        at = self._places[place]
        document = task.eval_docs[at.index]
        values: dict[str, float] = {}
        raw: dict[str, Any] = {}
        outputs = list(instances[0].filtered_resps)
        for name in outputs:
            results = task.process_results(document, [each.filtered_resps[name] for each in instances])
            for metric, value in results.items():
                key = metric if len(outputs) == 1 else f"{metric}@{name}"
                if isinstance(value, bool | int | float):
                    values[key] = float(value)
                else:
                    raw[key] = _plain(value)
        output = [_plain(each.resps) for each in instances]
        for each in instances:
            each.resps, each.filtered_resps = [], {}
        return Record(
            sample_id=self.sample_ids[place],
            task=at.task,
            index=at.index,
            document=canonical_json(self._documents[at]).decode(),
            target=str(task.doc_to_target(document)),
            output=output,
            values=values,
            raw=raw,
        )


def require_engine() -> None:
    """Check that the engine is the one whose results these are.

    Raises:
        RunFailure: another version is installed.
    """
    installed = version("lm-eval")
    if installed != LM_EVAL_VERSION:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Suites of tasks need lm-eval {LM_EVAL_VERSION}, and {installed} is installed: "
            f"pip install lm-eval=={LM_EVAL_VERSION}.",
            param="evaluation.suites",
        )


def _load(folder: SuiteFolder, scratch: Path) -> dict[str, Any]:
    require_engine()
    # Templates come with a suite from others: no attribute that isn't data, no change of anything.
    sandbox = ImmutableSandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
    )
    sandbox.filters.update(engine_utils.env.filters)
    engine_utils.env = sandbox
    if folder.path is None:
        return _load_library(folder.name)
    try:
        with _offline():
            return _load_folder(folder, scratch)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"Suite {folder.name} can't be loaded: {type(error).__name__}: {error}. Mend its files and add "
            "it again.",
            param="evaluation.suites",
        ) from error


def _load_folder(folder: SuiteFolder, scratch: Path) -> dict[str, Any]:
    root = Path(str(folder.path))
    manager = TaskManager(include_path=str(root), include_defaults=False)
    loaded: dict[str, Any] = {}
    for name in folder.tasks:
        # Where the installation doesn't allow functions, none is looked for.
        config: dict[str, Any] = load_yaml(
            Path(str(manager.task_index[name].yaml_path)), resolve_func=folder.runs_code
        )
        data: dict[str, Any] = {**config.get("dataset_kwargs", {}), "cache_dir": str(scratch)}
        data["data_files"] = _inside(data.get("data_files"), root)
        loaded |= manager.load([{**config, "dataset_kwargs": data}])["tasks"]
    return loaded


def _load_library(name: str) -> dict[str, Any]:
    task = name.removeprefix(LIBRARY_PREFIX)
    manager = TaskManager()
    if task not in manager.task_index:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"lm-evaluation-harness {LM_EVAL_VERSION} has no task {task!r}: check the name.",
            param="evaluation.suites",
        )
    try:
        return dict(manager.load([task])["tasks"])
    except (OSError, ValueError, RuntimeError) as error:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"The data of {name} can't be had ({type(error).__name__}): its tasks read a hub. Let the node "
            "reach one, or add a suite with its own files.",
            param="evaluation.suites",
        ) from error


@contextlib.contextmanager
def _offline() -> Generator[None]:
    """A suite's files are all that its tasks may read: nothing is looked for on a hub meanwhile."""
    switches = ((datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE"))
    before = [getattr(module, name) for module, name in switches]
    for module, name in switches:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(switches, before, strict=True):
            setattr(module, name, value)


def _inside(files: Any, root: Path) -> Any:
    """Return data files as paths in the suite's folder, which they were checked to stay in."""
    if isinstance(files, dict):
        return {key: _inside(value, root) for key, value in files.items()}
    if isinstance(files, list):
        return [_inside(each, root) for each in files]
    path = (root / str(files)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"data file {files!r} is not in the suite's folder")
    return str(path)


def _documents(task: Any, limit: int) -> list[Any]:
    count = min(limit, len(task.eval_docs))
    return [_plain(task.eval_docs[index]) for index in range(count)]


def _by_task(places: Sequence[int], known: Sequence[_Place]) -> Iterable[tuple[str, list[int]]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place in places:
        groups[known[place].task].append(place)
    return groups.items()


def _run(model: Any, instances: list[Any]) -> None:
    by_type: dict[str, list[Any]] = defaultdict(list)
    for instance in instances:
        by_type[instance.request_type] += [instance] * (instance.repeats or 1)
    for kind, requests in by_type.items():
        for answer, request in zip(getattr(model, kind)(requests, disable_tqdm=True), requests, strict=True):
            request.resps.append(answer)


def _item(record: Record, metric: str) -> Any:
    return record.values[metric] if metric in record.values else record.raw[metric]


def _figure(metric: str, items: list[Any], aggregate: Callable[[Any], Any], better: bool) -> Figure:
    is_mean = aggregate is mean
    return Figure(
        name=metric.replace("@", "."),
        value=float(aggregate(items)),
        standard_error=_mean_error(items) if is_mean else _bootstrap_error(aggregate, items),
        n=len(items),
        higher_is_better=better,
        proportion=is_mean and all(each in (0.0, 1.0) for each in items),
        column=f"value.{metric}" if is_mean else None,
    )


def _pooled(figures: Sequence[Figure], by_task: dict[str, list[Record]]) -> list[Figure]:
    """Figures over the samples of all tasks, for means that all tasks have."""
    columns = {each.column for each in figures if each.column is not None}
    found: list[Figure] = []
    for column in sorted(columns):
        metric = column.removeprefix("value.")
        mine = [each for each in figures if each.column == column]
        if len(mine) != len(by_task):
            continue
        items = [each.values[metric] for records in by_task.values() for each in records]
        found.append(_figure(metric, items, mean, mine[0].higher_is_better))
    return found


def _mean_error(items: Sequence[float]) -> float:
    if len(items) < 2:
        return 0.0
    centre = sum(items) / len(items)
    variance = sum((each - centre) ** 2 for each in items) / (len(items) - 1)
    return math.sqrt(variance / len(items))


def _bootstrap_error(aggregate: Callable[[Any], Any], items: Sequence[Any]) -> float:
    if len(items) < 2:
        return 0.0
    draw = random.Random(0)  # noqa: S311 - resampling
    values = [float(aggregate(draw.choices(items, k=len(items)))) for _ in range(_BOOTSTRAPS)]
    centre = sum(values) / len(values)
    return math.sqrt(sum((each - centre) ** 2 for each in values) / (len(values) - 1))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: tuples and arrays as lists, what it can't say as text."""
    return json.loads(json.dumps(value, default=_to_plain))


def _to_plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
