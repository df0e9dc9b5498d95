"""Which cells a job's evaluation has: every model in every suite, with what their results depend on. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.kit.canonical import digest_bytes, digest_json
from steelyard.specs.blocks import EndpointBlock, EvaluationBlock
from steelyard.specs.evaluations import (
    ADAPTER_BASE,
    BUILT_IN_SUITES,
    LM_EVAL_VERSION,
    OWN_ENGINE,
    Cell,
    Subject,
    SuiteFolder,
    built_in_digest,
)
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec
from steelyard.specs.safety import SAFETY_ENGINE, is_safety_suite, safety_digest

Evaluated = FineTuneSpec | EvalOnlySpec


@dataclass(frozen=True)
class Contestant:
    """A model that is to be measured. `base_digest` is that of the model an adapter lies on."""

    subject: Subject
    digest: str
    base_digest: str | None = None


def plan_cells(
    spec: Evaluated,
    contestants: Sequence[Contestant],
    suites: Sequence[SuiteFolder],
    dataset: Mapping[str, str] | None,
) -> list[Cell]:
    """Return the cells of a job's evaluation, each model's together.

    Args:
        suites: folders of the suites that the spec names, but for the built-in ones.
        dataset: `digest` and `format` of the data, where the job has some.
    """
    block = spec.evaluation
    if block is None:
        return []
    folders = {folder.name: folder for folder in suites}
    return [
        _cell(spec, block, name, contestant, folders.get(name), dataset or {})
        for contestant in contestants
        for name in block.suite_names
    ]


def endpoint_digest(endpoint: EndpointBlock) -> str:
    """Return what stands for a model whose weights can't be seen: its address and name."""
    return digest_json({"url": endpoint.url, "model": endpoint.model})


def _cell(
    spec: Evaluated,
    block: EvaluationBlock,
    name: str,
    contestant: Contestant,
    folder: SuiteFolder | None,
    dataset: Mapping[str, str],
) -> Cell:
    settings = _model_settings(spec, contestant) | {"max_samples": block.max_samples}
    if name in BUILT_IN_SUITES:
        return Cell(
            subject=contestant.subject,
            suite=name,
            suite_digest=built_in_digest(name, dataset),
            model_digest=contestant.digest,
            settings=settings | {"max_length": _max_length(spec)},
            engine=OWN_ENGINE,
        )
    if is_safety_suite(name):
        return Cell(
            subject=contestant.subject,
            suite=name,
            suite_digest=safety_digest(name),
            model_digest=contestant.digest,
            settings=settings
            | {"safety": block.safety.model_dump(mode="json", exclude_defaults=True)}
            | _planted_in(block, dataset),
            engine=SAFETY_ENGINE,
        )
    assert folder is not None
    return Cell(
        subject=contestant.subject,
        suite=name,
        suite_digest=folder.digest,
        model_digest=contestant.digest,
        settings=settings
        | {"num_fewshot": block.num_fewshot, "apply_chat_template": block.apply_chat_template},
        engine=f"lm-eval-{LM_EVAL_VERSION}",
    )


def _planted_in(block: EvaluationBlock, dataset: Mapping[str, str]) -> dict[str, str]:
    """Canaries are looked for in the data, too."""
    return {"canaries_in": dataset["digest"]} if block.safety.canaries and dataset else {}


def _model_settings(spec: Evaluated, contestant: Contestant) -> dict[str, Any]:
    if isinstance(spec, EvalOnlySpec) and spec.endpoint is not None:
        return {"max_tokens": spec.endpoint.max_tokens}
    template = spec.model.chat_template if spec.model else None
    return {
        "dtype": spec.model.dtype if spec.model else None,
        "chat_template": digest_bytes(template.encode()) if template else None,
        ADAPTER_BASE: contestant.base_digest,
    }


def _max_length(spec: Evaluated) -> int:
    return spec.max_length if isinstance(spec, EvalOnlySpec) else spec.training.max_length
