"""The report of a safety suite: each probe with its rate and its limits, and what was not tested. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.evals.safety.words import ADDED, NEVER_TESTED
from steelyard.specs.comparisons import BaseComparison, MetricComparison
from steelyard.specs.evaluations import MetricResult
from steelyard.specs.safety import (
    CANARY,
    GARAK,
    LIKELIHOOD_PROBES,
    PROBE_DIGESTS,
    SAFETY,
    NotTested,
    ProbeReport,
    SafetyReport,
    SafetySettings,
    is_safety_suite,
    probes_of,
)
from steelyard.trainers.safety.scorers import SCORERS
from steelyard.trainers.safety.sets import load_set

_SUFFIX = "_pass_rate"


def safety_report(
    suite: str,
    settings: Mapping[str, Any],
    metrics: Sequence[MetricResult],
    base: BaseComparison | None = None,
) -> SafetyReport | None:
    """Return the report of a safety suite's results; None for any other suite.

    Args:
        settings: the evaluation's, as its cell has them.
        base: the results beside those of the model that was trained from.
    """
    if not is_safety_suite(suite):
        return None
    found = {each.name.removesuffix(_SUFFIX): each for each in metrics if each.name.endswith(_SUFFIX)}
    given = SafetySettings.model_validate(settings.get("safety", {}), strict=False)
    names = [name for name in (*PROBE_DIGESTS, *ADDED) if name in found]
    compared = {each.metric.rpartition("/")[2]: each for each in base.metrics} if base else {}
    return SafetyReport(
        suite=suite,
        probes=[_probe(name, found[name], compared.get(f"{name}{_SUFFIX}")) for name in names],
        not_tested=[
            *_left_out(suite, given, found),
            *_cut(found),
            *_unplanted(found, metrics),
            *NEVER_TESTED,
        ],
        base=base.model_name if base else None,
        base_message=base.message if base else "",
    )


def _probe(name: str, result: MetricResult, regression: MetricComparison | None) -> ProbeReport:
    figures = {
        "probe": name,
        "pass_rate": result.mean,
        "interval": result.interval,
        "n": result.n,
        "regression": regression,
    }
    if name in ADDED:
        return ProbeReport.model_validate(figures | ADDED[name].words)
    known = load_set(name)
    scorer = SCORERS.get(known.scorer)
    return ProbeReport.model_validate(
        figures
        | {
            "measures": known.measures,
            "passes": known.passes,
            "scorer": f"{scorer.name}-{scorer.version}" if scorer else known.scorer,
            "limits": [known.limits, *([scorer.limits] if scorer else [])],
            "source": known.source,
            "licence": known.licence,
            "version": known.version,
            "digest": known.digest,
        }
    )


def _left_out(suite: str, given: SafetySettings, found: Mapping[str, MetricResult]) -> list[NotTested]:
    wanted = [*PROBE_DIGESTS, CANARY, GARAK] if suite == SAFETY else probes_of(suite, given)
    missing = [name for name in (*wanted, "judge", "detoxify") if name not in found]
    return [NotTested(what=name, why=_why(name, suite, given), remedy=_remedy(name)) for name in missing]


def _why(name: str, suite: str, given: SafetySettings) -> str:
    if name in ("judge", "detoxify"):
        asked = given.judge if name == "judge" else given.detoxify
        return (
            "none was set" if asked is None else f"nothing that {suite} ran has answers that it could judge"
        )
    if name == CANARY and not given.canaries:
        return "no canaries are declared"
    if name == GARAK and not given.garak:
        return "no probes of garak are set"
    if name in LIKELIHOOD_PROBES:
        return "the model is behind an api, which gives no likelihoods"
    return "no case could be judged"


def _remedy(name: str) -> str:
    return ADDED[name].remedy if name in ADDED else ""


def _unplanted(found: Mapping[str, MetricResult], metrics: Sequence[MetricResult]) -> list[NotTested]:
    """Say of which canaries it means nothing that the model does not tell them."""
    if CANARY not in found:
        return []
    planted = next((each for each in metrics if each.name == "canary_planted_rate"), None)
    if planted is None:
        return [
            NotTested(
                what="whether the canaries are in the training data",
                why="the job names no dataset to look into",
                remedy="name the version that the model was trained with as the job's dataset",
            )
        ]
    absent = round((1.0 - planted.mean) * planted.n)
    if absent == 0:
        return []
    return [
        NotTested(
            what=f"{absent} of {planted.n} canaries",
            why="no row of the dataset's training split holds them, so that nothing can tell them",
            remedy=_remedy(CANARY),
        )
    ]


def _cut(found: Mapping[str, MetricResult]) -> list[NotTested]:
    sizes = {name: len(load_set(name).cases) for name in PROBE_DIGESTS if name in found}
    return [
        NotTested(
            what=f"{size - found[name].n} of {size} cases of {name}",
            why="evaluation.max_samples is smaller than the set, or they could not be judged",
            remedy="raise evaluation.max_samples",
        )
        for name, size in sizes.items()
        if found[name].n < size
    ]
