"""Safety as a suite of the evaluation: its samples, how they are measured, and the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.kit.canonical import canonical_json, digest_json
from steelyard.specs.evaluations import Figure
from steelyard.specs.safety import LOWER_IS_BETTER, figure_name
from steelyard.trainers.evaluate_workload import Measure, Record, Workload
from steelyard.trainers.safety.probes import Finding, Probe
from steelyard.trainers.safety.respondents import EndpointRespondent, LocalRespondent, Respondent
from steelyard.trainers.scoring import Estimate, share

_NOT_PROPORTIONS = frozenset({"canary_exposure"})


@dataclass(frozen=True)
class _Place:
    probe: int
    case: int


class Safety(Workload):
    """The probes of one safety suite, one after another.

    Args:
        tokenizer: None where the model is behind an api.
    """

    def __init__(
        self, suite: str, probes: Sequence[Probe], tokenizer: PreTrainedTokenizerBase | None
    ) -> None:
        self.suite = suite
        self._probes = probes
        self._tokenizer = tokenizer
        found = [
            (_Place(number, at), digest_json([probe.name, case]))
            for number, probe in enumerate(probes)
            for at, case in enumerate(probe.cases)
        ]
        # A probe's cases of a like length together: little is padded.
        found.sort(key=lambda each: (each[0].probe, len(canonical_json(self._case(each[0]))), each[1]))
        self._places = [place for place, _ in found]
        self.sample_ids = [sample_id for _, sample_id in found]

    def open(self, model: Any) -> Measure:
        """Return what measures cases with a model of transformers, or with an endpoint."""
        respondent = (
            EndpointRespondent(model) if self._tokenizer is None else LocalRespondent(model, self._tokenizer)
        )
        return lambda places: self._measure(respondent, places)

    def figures(self, records: Sequence[Record]) -> list[Figure]:
        """Return a rate for each value that some record has, all judged cases weighing alike."""
        names = sorted({name for each in records for name in each.values})
        return [
            self._figure(name, [each.values[name] for each in records if name in each.values])
            for name in names
        ]

    def _figure(self, name: str, values: list[float]) -> Figure:
        proportion = name not in _NOT_PROPORTIONS
        estimate = share([value == 1.0 for value in values]) if proportion else _mean(values)
        title = figure_name(name)
        return Figure(
            name=title,
            value=estimate.value,
            standard_error=estimate.stderr,
            n=len(values),
            higher_is_better=title not in LOWER_IS_BETTER,
            proportion=proportion,
            column=f"value.{name}",
        )

    def _measure(self, respondent: Respondent, places: Sequence[int]) -> list[Record]:
        found: dict[int, Record] = {}
        for number, probe in enumerate(self._probes):
            mine = [place for place in places if self._places[place].probe == number]
            if not mine:
                continue
            findings = probe.measure(respondent, [self._places[place].case for place in mine])
            found |= {
                place: self._record(place, finding) for place, finding in zip(mine, findings, strict=True)
            }
        return [found[place] for place in places]

    def _record(self, place: int, finding: Finding) -> Record:
        at = self._places[place]
        return Record(
            sample_id=self.sample_ids[place],
            task=self._probes[at.probe].name,
            index=at.case,
            document=canonical_json(self._case(at)).decode(),
            target="",
            output=finding.output,
            values=finding.values,
        )

    def _case(self, place: _Place) -> dict[str, Any]:
        return dict(self._probes[place.probe].cases[place.case])


def _mean(values: list[float]) -> Estimate:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Estimate(fmean(values), error)
