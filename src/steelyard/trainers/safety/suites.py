"""Which probes a safety suite runs, with the judges that settings name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from steelyard.specs.safety import CANARY, GARAK, LIKELIHOOD_PROBES, SafetySettings, probes_of
from steelyard.trainers.safety.adapters.detoxify import DetoxifyScorer
from steelyard.trainers.safety.adapters.garak import GarakProbe
from steelyard.trainers.safety.adapters.llama_guard import LlamaGuard
from steelyard.trainers.safety.canaries import CanaryProbe, count_planted
from steelyard.trainers.safety.probes import AnswerProbe, PairProbe, Probe
from steelyard.trainers.safety.scorers import Scorer
from steelyard.trainers.safety.sets import load_set
from steelyard.trainers.safety.workload import Safety


def load_safety(
    suite: str,
    settings: SafetySettings,
    max_samples: int,
    tokenizer: PreTrainedTokenizerBase | None,
    read_secret: Callable[[str], str],
    rows: Sequence[Path] | None = None,
) -> Safety:
    """Make a safety suite's workload.

    Args:
        max_samples: cases of each probe at most, the first ones.
        tokenizer: None where the model is behind an api: probes that need likelihoods are left out.
        read_secret: returns the value of a secret by its name.
        rows: files of the training data, that canaries are looked for in; None: there is none.

    Raises:
        RunFailure: a library or weights that settings name are not there.
    """
    names = [
        name for name in probes_of(suite, settings) if tokenizer is not None or name not in LIKELIHOOD_PROBES
    ]
    judges = _judges(settings, read_secret)
    probes = [_probe(name, settings, max_samples, judges, rows) for name in names]
    return Safety(suite, probes, tokenizer)


def _judges(settings: SafetySettings, read_secret: Callable[[str], str]) -> list[Scorer]:
    judges: list[Scorer] = []
    if settings.judge is not None:
        judge = settings.judge
        judges.append(LlamaGuard(judge, read_secret(judge.secret) if judge.secret else None))
    if settings.detoxify is not None:
        judges.append(DetoxifyScorer(settings.detoxify))
    return judges


def _probe(
    name: str,
    settings: SafetySettings,
    limit: int,
    judges: list[Scorer],
    rows: Sequence[Path] | None,
) -> Probe:
    if name == CANARY:
        canaries = settings.canaries[:limit]
        planted = count_planted(canaries, rows) if rows is not None else None
        return CanaryProbe(canaries, settings.canary_references, planted)
    if name == GARAK:
        return GarakProbe(settings.garak, limit)
    found = load_set(name)
    return PairProbe(found, limit) if found.kind == "pair" else AnswerProbe(found, limit, judges)
