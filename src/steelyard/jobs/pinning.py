"""Pinning: the versions of data and suites that a spec means, fixed for as long as its job is known."""

from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets import catalogue
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.evals.suites import pin_suites
from steelyard.governance.access import ProjectId
from steelyard.jobs.fitting import require_batches, require_choices, require_roles, require_shape
from steelyard.kit.errors import InvalidSpec
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec, HpoSpec, RlhfSpec

Runnable = FineTuneSpec | EvalOnlySpec | HpoSpec | RlhfSpec
"""Specs that this version can run."""
Launched = TypeVar("Launched", bound=FineTuneSpec | EvalOnlySpec | RlhfSpec)


async def pin(
    session: AsyncSession, project: ProjectId, spec: Runnable, *, begun: bool = False
) -> tuple[Runnable, DatasetVersion | None]:
    """Fix the versions of dataset and suites, and check that data and models fit what is done with them.

    Args:
        begun: it comes out of a spec that was pinned before, so what was deleted since stays for it.

    Raises:
        InvalidSpec: there is no such version, or it doesn't fit; `param` is the path of the field.
    """
    if not isinstance(spec, HpoSpec):
        return await _pin(session, project, spec, begun=begun)
    await require_choices(session, project, spec.search)
    try:
        trial, dataset = await _pin(session, project, spec.trial, begun=begun)
    except InvalidSpec as error:
        param = f"trial.{error.param}" if error.param else "trial"
        raise InvalidSpec(error.message, param=param, **error.details) from error
    return spec.model_copy(update={"trial": trial}), dataset


async def _pin(
    session: AsyncSession, project: ProjectId, spec: Launched, *, begun: bool
) -> tuple[Launched, DatasetVersion | None]:
    if spec.evaluation is not None and not begun:
        pinned_block = await pin_suites(session, project, spec.evaluation)
        spec = spec.model_copy(update={"evaluation": pinned_block})
    require_batches(spec)
    await require_roles(session, project, spec, begun=begun)
    if spec.dataset is None:
        return spec, None
    dataset = await catalogue.resolve(session, project, spec.dataset.ref, hold=True, deleted_too=begun)
    if spec.dataset.format not in (None, dataset.format):
        raise InvalidSpec(
            f"dataset {dataset.ref} holds {dataset.format}, the job expects {spec.dataset.format};"
            " name another dataset or leave out dataset.format",
            param="dataset.format",
        )
    require_shape(spec, dataset)
    pinned = spec.dataset.model_copy(update={"ref": dataset.ref})
    return spec.model_copy(update={"dataset": pinned}), dataset
