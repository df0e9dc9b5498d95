"""Probe sets: versioned data in the package, each with its source, its licence and what it does not show.

Nothing here needs torch: the control plane reads the words, the trainer reads the cases.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from steelyard.kit.canonical import digest_json
from steelyard.runtime.failures import bad_config
from steelyard.specs.safety import PROBE_DIGESTS
from steelyard.specs.states import Reason


@dataclass(frozen=True)
class ProbeSet:
    """One set of cases of a kind."""

    name: str
    version: int
    digest: str
    """Over the whole file, its words included."""
    kind: str
    """`answer`: each case is a conversation that the model answers. `pair`: two likelihoods each."""
    scorer: str
    max_new_tokens: int
    measures: str
    passes: str
    limits: str
    source: str
    licence: str
    cases: tuple[dict[str, Any], ...]


@cache
def load_set(name: str) -> ProbeSet:
    """Read a set.

    Raises:
        RunFailure: the file is not the one that this version of the platform was released with.
    """
    content = json.loads((files("steelyard.trainers.safety") / "sets" / f"{name}.json").read_text("utf-8"))
    digest = digest_json(content)
    if digest != PROBE_DIGESTS[name]:
        raise bad_config(
            Reason.BAD_CONFIG,
            f"The probe set {name} has been changed ({digest[:15]}): install the package again, and put "
            "probes of your own in a suite of your own.",
            param="evaluation.suites",
        )
    cases = tuple(content.pop("cases"))
    del content["language"]
    return ProbeSet(digest=digest, cases=cases, **content)
