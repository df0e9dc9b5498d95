"""Whether a spec's parts fit each other: rows that its method learns from, and models in their own roles.

A reward model scores texts and writes none. It is refused wherever a model that writes is meant, and nothing
else is taken as a reward model.
"""

from collections.abc import Iterator

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.catalogue import DatasetVersion
from steelyard.governance.access import ProjectId
from steelyard.jobs.model_names import PREFIXES, checkpoint_id, parse_version, why_no_name
from steelyard.kit.errors import InvalidSpec
from steelyard.rlhf.scorer import pairs_needed
from steelyard.rlhf.stages import all_orders
from steelyard.specs.evaluations import BUILT_IN_SUITES
from steelyard.specs.families import ChildOrder
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec, RlhfSpec
from steelyard.specs.methods import METHOD_FORMATS, REWARD_METHOD, TEXT_FORMATS
from steelyard.specs.rlhf import RewardModelBlock
from steelyard.specs.search import Choice, SearchBlock
from steelyard.storage.tables import CheckpointRow, JobRow, ModelVersionRow

Fitted = FineTuneSpec | EvalOnlySpec | RlhfSpec
_SEARCHED_MODELS = {"model.name_or_path": False, "online.reward_model": True}
"""Fields that name models and can be searched -> whether a reward model is meant."""


def require_shape(spec: Fitted, dataset: DatasetVersion) -> None:
    """Hold the shape of a dataset's rows against what the spec does with them.

    Raises:
        InvalidSpec: the method doesn't learn from such rows, or a suite can't be made from them.
    """
    method = _method_of(spec)
    fitting = METHOD_FORMATS.get(method, (dataset.format,))
    if dataset.format not in fitting:
        raise InvalidSpec(
            f"dataset {dataset.ref} holds {dataset.format} rows, and method {method} learns from "
            f"{' or '.join(fitting)}; name another dataset, or another method",
            param="dataset.ref",
        )
    if (
        isinstance(spec, FineTuneSpec)
        and spec.training.eval_steps is not None
        and not dataset.rows_validation
    ):
        raise InvalidSpec(
            f"dataset {dataset.ref} has no validation rows to look at; ingest one that has, or leave it out",
            param="training.eval_steps",
        )
    if isinstance(spec, RlhfSpec) and spec.reward_model is not None:
        _require_pairs(spec.reward_model, dataset)
    suites = spec.evaluation.suite_names if spec.evaluation is not None else []
    own = [name for name in suites if name in BUILT_IN_SUITES]
    if own and dataset.format not in TEXT_FORMATS:
        raise InvalidSpec(
            f"suite {own[0]} is made from {', '.join(TEXT_FORMATS)} rows, and {dataset.ref} holds "
            f"{dataset.format}: use safety, a suite of your own, or an eval_only job over other data",
            param="evaluation.suites",
        )


def require_batches(spec: Fitted) -> None:
    """Hold the size of a step against its method; of a pipeline against those of all its stages.

    Raises:
        InvalidSpec: a step couldn't be made of such batches.
    """
    if isinstance(spec, EvalOnlySpec):
        return
    if isinstance(spec, RlhfSpec):
        for order in all_orders(spec):
            _require_stage(order)
        return
    if why := _why_no_step(spec):
        raise InvalidSpec(why, param="training.per_device_train_batch_size")


async def require_roles(
    session: AsyncSession, project: ProjectId, spec: Fitted, *, begun: bool = False
) -> None:
    """Hold the models that a spec names, as far as the platform knows them, against what it wants of them.

    Folders and Hugging Face ids are left to preparation, which looks at names of all kinds.

    Args:
        begun: it comes out of a spec that was taken before. A base model that vanished since is left to
            preparation as well, so that the job fails as others do.

    Raises:
        InvalidSpec: there is no such model in the project, or a model is named in another's role.
    """
    for param, name, scores in _models_of(spec):
        if why := await _why_no_model(session, project, name, scores=scores, begun=begun):
            raise InvalidSpec(why, param=param)


async def require_choices(session: AsyncSession, project: ProjectId, block: SearchBlock) -> None:
    """Hold the models that a search chooses from against what its trials want of them, as `require_roles`.

    Raises:
        InvalidSpec: as for that.
    """
    for path, scores in _SEARCHED_MODELS.items():
        parameter = block.parameters.get(path)
        for place, name in enumerate(parameter.values if isinstance(parameter, Choice) else ()):
            if why := await _why_no_model(session, project, str(name), scores=scores):
                raise InvalidSpec(why, param=f"search.parameters.{path}.values.{place}")


def why_not_in_role(name: str, method: str, *, scores: bool) -> str | None:
    """Return why a model that a method made can't play a role, or None.

    Args:
        scores: whether a reward model is wanted. Else it is a model that writes.
    """
    if scores and method != REWARD_METHOD:
        return (
            f"{name} was made by method {method} and writes texts; a reward model scores them: train one "
            "with method reward"
        )
    if not scores and method == REWARD_METHOD:
        return f"{name} is a reward model: it scores texts and writes none; name a model that writes"
    return None


def _require_pairs(block: RewardModelBlock, dataset: DatasetVersion) -> None:
    """Refuse a bound that no reward model could be shown to keep, before anything is spent on it."""
    confidence = 0.0 if block.confidence is None else block.confidence
    needed = pairs_needed(1.0, block.min_accuracy, confidence)
    if needed is None or dataset.rows_validation < needed:
        raise InvalidSpec(
            f"dataset {dataset.ref} holds {dataset.rows_validation} validation pairs, and even a reward "
            f"model that orders all of them rightly is not shown to reach {block.min_accuracy:g}: "
            + (f"ingest at least {needed}, or lower" if needed is not None else "lower")
            + " reward_model.min_accuracy or its confidence",
            param="reward_model.min_accuracy",
        )


def _is_own_code(spec: Fitted) -> bool:
    """Whether a spec runs a script of one's own."""
    return isinstance(spec, FineTuneSpec) and spec.method == "script"


def _require_stage(order: ChildOrder) -> None:
    """Refuse at once what would only be refused when the stage is made, after the others were paid for."""
    try:
        stage = FineTuneSpec.model_validate(order.spec, strict=False)
    except ValidationError as error:
        raise InvalidSpec(f"stage {order.key} can't be made: {error.errors()[0]['msg']}") from error
    require_batches(stage)


def _why_no_step(spec: FineTuneSpec) -> str | None:
    training, spread = spec.training, spec.distributed
    batch = training.per_device_train_batch_size
    if spec.method == "kto" and batch < 2:
        return "method kto sets each answer beside others of its batch: use a batch size of 2 or more"
    if spec.method != "grpo" or spec.online is None:
        return None
    answers = batch * training.gradient_accumulation_steps * spread.num_nodes * spread.processes_per_node
    group = spec.online.num_generations
    if answers % group == 0:
        return None
    return (
        f"a step of grpo makes {answers} answers (batch size x gradient_accumulation_steps x processes), "
        f"which groups of num_generations {group} don't divide: make it a multiple"
    )


def _method_of(spec: Fitted) -> str:
    if isinstance(spec, EvalOnlySpec):
        return "eval_only"
    if isinstance(spec, FineTuneSpec):
        return spec.method
    return REWARD_METHOD if spec.reward_model is not None else spec.policy.method


def _models_of(spec: Fitted) -> Iterator[tuple[str, str, bool]]:
    """Yield path of the field, name of the model, and whether it is to be a reward model.

    What one's own script does with a model is its own affair.
    """
    if spec.model is not None and not _is_own_code(spec):
        yield "model.name_or_path", spec.model.name_or_path, False
    if isinstance(spec, FineTuneSpec) and spec.online is not None:
        yield "online.reward_model", spec.online.reward_model, True


async def _why_no_model(
    session: AsyncSession, project: ProjectId, name: str, *, scores: bool, begun: bool = False
) -> str | None:
    """Return why a name is no model that can play a role, as far as that is known here, or None."""
    if (why := why_no_name(name)) is not None:
        return why
    method = await _method_behind(session, project, name)
    if method is not None:
        return why_not_in_role(name, method, scores=scores)
    if scores or (name.startswith(PREFIXES) and not begun):
        return f"no {name!r} in project {project!r}; 'steelyard models list' shows what there is"
    return None


async def _method_behind(session: AsyncSession, project: ProjectId, name: str) -> str | None:
    """Return the method of the job that made a model of the project, empty where it has none; None where
    there is no such model.
    """
    method = func.coalesce(JobRow.spec["method"].astext, "")
    if (version := parse_version(name)) is not None:
        query = select(method).join(ModelVersionRow, ModelVersionRow.job_id == JobRow.id)
        query = query.where(
            ModelVersionRow.project_id == project,
            ModelVersionRow.name == version[0],
            ModelVersionRow.version == version[1],
        )
    elif (checkpoint := checkpoint_id(name)) is not None:
        query = select(method).join(CheckpointRow, CheckpointRow.job_id == JobRow.id)
        query = query.where(
            CheckpointRow.project_id == project,
            CheckpointRow.id == checkpoint,
            CheckpointRow.status == "available",
        )
    else:
        return None
    return await session.scalar(query)
