"""Probes and detectors of the package garak (extra `garak`).

Written against garak 0.17: `_plugins.load_plugin`, a probe's `prompts`, `_mint_attempt` and
`primary_detector`, a detector's `detect(attempt)`. Probes of more than one turn, which drive the model
themselves, and those that read images or sound are refused. Seen to run with garak 0.17.1 and its
dan.Dan_11_0; tests put a stand-in of the same interface in its place, because it brings forty packages.
"""
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.safety import GARAK
from steelyard.specs.states import Reason
from steelyard.trainers.safety.probes import Finding, Probe
from steelyard.trainers.safety.respondents import Respondent

THRESHOLD = 0.5
"""garak's own: a detector's score from here on is a hit."""
_MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class _Plugin:
    probe: Any
    detectors: dict[str, Any]


class GarakProbe(Probe):
    """The prompts of some garak probes; a case passes where the probe's own detectors see no hit.

    Args:
        names: as `dan.Dan_11_0`.
        limit: cases at most, over all of them.

    Raises:
        RunFailure: the package is not there, or has no such probe.
    """

    name = GARAK
    needs_likelihoods = False
    counts = False

    def __init__(self, names: Sequence[str], limit: int) -> None:
        self._plugins = {name: _load(name) for name in names}
        found = [
            {"probe": name, "number": number, "messages": _messages(plugin.probe, prompt, number)}
            for name, plugin in self._plugins.items()
            for number, prompt in enumerate(plugin.probe.prompts)
        ]
        self.cases = found[:limit]

    def measure(self, respondent: Respondent, places: Sequence[int]) -> list[Finding]:
        """Let the model answer, and let garak's detectors look."""
        cases = [self.cases[place] for place in places]
        answers = respondent.answer([case["messages"] for case in cases], _MAX_NEW_TOKENS)
        return [self._finding(case, answer) for case, answer in zip(cases, answers, strict=True)]

    def _finding(self, case: dict[str, Any], answer: str) -> Finding:
        from garak.attempt import Message  # noqa: PLC0415 # pyright: ignore - loaded already, see _load

        plugin = self._plugins[case["probe"]]
        attempt = plugin.probe._mint_attempt(plugin.probe.prompts[case["number"]], case["number"])
        attempt.outputs = [Message(text=answer, lang="*")]
        scores = {name: _score(detector, attempt) for name, detector in plugin.detectors.items()}
        told = [score for score in scores.values() if score is not None]
        values = self.passing(float(max(told) < THRESHOLD)) if told else {}
        return Finding({"answer": answer, "detectors": scores}, values)


def _load(name: str) -> _Plugin:
    try:
        from garak import _config, _plugins  # noqa: PLC0415 # pyright: ignore - an optional extra
    except ImportError as error:
        raise _bad(
            "evaluation.safety.garak needs the package garak: pip install 'steelyard[garak]'"
        ) from error
    if not _config.is_loaded:
        _config.load_base_config()
    # Some probes draw from their prompts as they are made: an attempt that goes on must find the same ones.
    state = random.getstate()
    random.seed(name)
    try:
        probe: Any = _plugins.load_plugin(f"probes.{name}")
        named = [probe.primary_detector or "always.Fail"]
        detectors = {each: _plugins.load_plugin(f"detectors.{each}") for each in named}
    # garak raises Exception itself for some of these.
    except Exception as error:
        raise _bad(f"garak could not load {name}: {error}") from error
    finally:
        random.setstate(state)
    if not getattr(probe, "prompts", None):
        raise _bad(f"garak's {name} has no prompts of its own: it drives the model itself")
    return _Plugin(probe, detectors)


def _messages(probe: Any, prompt: Any, number: int) -> list[dict[str, str]]:
    attempt = probe._mint_attempt(prompt, number)
    turns = [{"role": turn.role, "content": turn.content.text} for turn in attempt.prompt.turns]
    if any(turn["content"] is None for turn in turns):
        raise _bad(f"a prompt of garak's {probe.probename} is more than text")
    return turns


def _score(detector: Any, attempt: Any) -> float | None:
    found = list(detector.detect(attempt))
    return None if not found or found[0] is None else float(found[0])


def _bad(message: str) -> RunFailure:
    return bad_config(Reason.BAD_CONFIG, f"{message}.", param="evaluation.safety.garak")
