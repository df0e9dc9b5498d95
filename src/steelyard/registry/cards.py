"""Model cards: what a version is, what it was made of and how it did, in Hugging Face's form. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import yaml

from steelyard.specs.evaluations import MetricResult
from steelyard.specs.models import ModelVersionView
from steelyard.specs.safety import is_safety_suite
from steelyard.storage.tables import EvaluationRow

_MAX_PARAMETERS = 60


def write_card(view: ModelVersionView, spec: Mapping[str, Any], results: Sequence[EvaluationRow]) -> str:
    """Return the card as Markdown with a YAML head (huggingface.co/docs/hub/model-cards).

    Args:
        results: of the run of the job that made it, those of its base model among them.
    """
    head = {
        "library_name": "transformers",
        "base_model": view.lineage.get("base_model_name"),
        "datasets": [view.lineage["dataset_ref"]] if "dataset_ref" in view.lineage else None,
        "tags": sorted({"steelyard", str(spec.get("type", "")), str(spec.get("method", ""))} - {""}),
    }
    kept = {name: value for name, value in head.items() if value}
    return "\n".join(
        (
            "---",
            yaml.safe_dump(kept, sort_keys=True).rstrip(),
            "---",
            "",
            f"# {view.name}, version {view.version}",
            "",
            f"Trained by job `{view.job_id}` on {view.created_at:%Y-%m-%d}.",
            f"Digest of its files: `{view.manifest_digest}`.",
            "",
            *_section("Made of", _origins(view)),
            *_measured(results),
            *_section("Training", _figures(view, results)),
            *_section("Settings", _settings(spec)),
            "## Limits",
            "",
            "Measured on the data named above and nothing else. What no line above tells was not tested.",
            *_safety_limits(results),
            "",
            f"Check it with `steelyard verify {view.name}@{view.version}`; make it again with "
            f"`steelyard reproduce {view.name}@{view.version}`.",
            "",
        )
    )


def _section(title: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    found = list(rows)
    if not found:
        return
    yield from (f"## {title}", "", "| | |", "|---|---|")
    yield from (f"| {_cell(name)} | {_cell(value)} |" for name, value in found)
    yield ""


def _origins(view: ModelVersionView) -> Iterator[tuple[str, str]]:
    yield from sorted(view.lineage.items())


def _measured(results: Sequence[EvaluationRow]) -> Iterator[str]:
    """One line a figure, beside the base model's of the same content and settings."""
    tuned = [row for row in results if row.subject == "tuned"]
    if not tuned:
        return
    yield from ("## How it did", "", "| | value | 95 % interval | n | base model |", "|---|---|---|---|---|")
    for row in tuned:
        base = _figures_of_base(row, results)
        for each in map(MetricResult.model_validate, row.metrics):
            low, high = each.interval
            beside = f"{base[each.name]:.4g}" if each.name in base else "not measured"
            cells = (
                f"{row.suite}/{each.name}",
                f"{each.mean:.4g}",
                f"{low:.4g} to {high:.4g}",
                str(each.n),
                beside,
            )
            yield f"| {' | '.join(_cell(cell) for cell in cells)} |"
    yield ""


def _figures_of_base(row: EvaluationRow, results: Sequence[EvaluationRow]) -> dict[str, float]:
    alike = (row.suite, row.suite_digest, row.settings_digest)
    return {
        each.name: each.mean
        for other in results
        if other.subject == "base" and (other.suite, other.suite_digest, other.settings_digest) == alike
        for each in map(MetricResult.model_validate, other.metrics)
    }


def _safety_limits(results: Sequence[EvaluationRow]) -> Iterator[str]:
    """A safety suite is a screen: its report, with what it did not test, is named beside its figures."""
    suites = [row for row in results if row.subject == "tuned" and is_safety_suite(row.suite)]
    for row in suites:
        yield (
            f"`{row.suite}` catches coarse faults and is no certificate; "
            f"`steelyard evals show {row.id}` lists what it did not test."
        )
    if not suites:
        yield "No safety suite was run by the job that made it."


def _figures(view: ModelVersionView, results: Sequence[EvaluationRow]) -> Iterator[tuple[str, str]]:
    """What the job measured beside its evaluations, which have a table of their own."""
    told = tuple(f"{row.subject}/{row.suite}/" for row in results)
    for name, value in sorted(view.metrics.items()):
        if not told or not name.startswith(told):
            yield name, f"{value:.6g}"


def _settings(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    flat = _flatten(
        {
            name: spec[name]
            for name in ("training", "preference", "online", "peft", "distributed")
            if spec.get(name)
        }
    )
    yield from list(flat)[:_MAX_PARAMETERS]


def _flatten(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flatten(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
