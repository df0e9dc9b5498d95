"""Model cards: what a version is, what it was made of and how it did, in Hugging Face's form. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import yaml

from steelyard.specs.models import ModelVersionView

_MAX_PARAMETERS = 60


def write_card(view: ModelVersionView, spec: Mapping[str, Any]) -> str:
    """Return the card as Markdown with a YAML head (huggingface.co/docs/hub/model-cards)."""
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
            *_section("How it did", _results(view)),
            *_section("Settings", _settings(spec)),
            "## Limits",
            "",
            "Measured on the data named above and nothing else. What no line above tells was not tested.",
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


def _results(view: ModelVersionView) -> Iterator[tuple[str, str]]:
    for name, value in sorted(view.metrics.items()):
        yield name, f"{value:.6g}"


def _settings(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    flat = _flatten({name: spec[name] for name in ("training", "peft", "distributed") if spec.get(name)})
    yield from list(flat)[:_MAX_PARAMETERS]


def _flatten(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in block.items():
        if isinstance(value, Mapping):
            yield from _flatten(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
