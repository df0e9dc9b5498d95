"""The platform's own suites, over the validation split of the job's dataset."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steelyard.kit.canonical import canonical_json
from steelyard.specs.blocks import DatasetFormat
from steelyard.specs.evaluations import Figure
from steelyard.trainers.evaluate_workload import Measure, Record, Workload, name_samples
from steelyard.trainers.rows import Row
from steelyard.trainers.scoring import Estimate, Sample, Scored, mean_loss, perplexity, score, share
from steelyard.trainers.suites import choices_of, heldout_samples, picks_of


class Heldout(Workload):
    """Loss per token of each row, weighted by its tokens, and perplexity."""

    suite = "heldout"

    def __init__(
        self,
        rows: Sequence[Row],
        shape: DatasetFormat,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> None:
        found = heldout_samples(rows, shape, tokenizer, max_length)
        found.sort(key=lambda each: (len(each[1].input_ids), each[0]))
        ids = name_samples(rows)
        self._rows = rows
        self._places = [row for row, _ in found]
        self._samples = [sample for _, sample in found]
        self._padding: Any = tokenizer.pad_token_id
        self.sample_ids = [ids[row] for row in self._places]

    def open(self, model: Any) -> Measure:
        """Return what measures rows with `model`."""
        return lambda places: self._measure(model, places)

    def _measure(self, model: Any, places: Sequence[int]) -> list[Record]:
        scores = score(model, [self._samples[place] for place in places], self._padding, _ignore)
        return [self._record(place, scored) for place, scored in zip(places, scores, strict=True)]

    def _record(self, place: int, scored: Scored) -> Record:
        row = self._places[place]
        return Record(
            sample_id=self.sample_ids[place],
            task=self.suite,
            index=row,
            document=canonical_json(self._rows[row]).decode(),
            target="",
            output={"log_likelihood": scored.log_likelihood, "tokens": scored.tokens},
            values={"loss": -scored.per_token},
            weights={"loss": float(scored.tokens)},
        )

    def figures(self, records: Sequence[Record]) -> list[Figure]:
        """Return loss and perplexity."""
        loss = mean_loss([_scored(each.output) for each in _in_order(records)])
        n = len(records)
        return [
            _figure("loss", loss, n, column="value.loss", weight_column="weight.loss"),
            _figure("perplexity", perplexity(loss), n, of="loss"),
        ]


class Choices(Workload):
    """Each prompt with its own completion among three others, by likelihood."""

    suite = "choices"

    def __init__(
        self,
        rows: Sequence[Row],
        shape: DatasetFormat,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> None:
        questions = choices_of(rows, shape, tokenizer, max_length)
        order = sorted(
            range(len(questions)),
            key=lambda at: (max(len(each.input_ids) for each in questions[at].samples), at),
        )
        ids = name_samples(rows)
        self._rows = rows
        self._order = order
        self._questions = [questions[at] for at in order]
        self._padding: Any = tokenizer.pad_token_id
        self.sample_ids = [ids[at] for at in order]

    def open(self, model: Any) -> Measure:
        """Return what measures questions with `model`."""
        return lambda places: self._measure(model, places)

    def _measure(self, model: Any, places: Sequence[int]) -> list[Record]:
        flat: list[Sample] = [each for place in places for each in self._questions[place].samples]
        scores = iter(score(model, flat, self._padding, _ignore))
        return [
            self._record(place, [next(scores) for _ in self._questions[place].samples]) for place in places
        ]

    def _record(self, place: int, scores: list[Scored]) -> Record:
        question, row = self._questions[place], self._order[place]
        picked = picks_of(scores)
        return Record(
            sample_id=self.sample_ids[place],
            task=self.suite,
            index=row,
            document=canonical_json(self._rows[row]).decode(),
            target=str(question.right),
            output={
                "log_likelihoods": [each.log_likelihood for each in scores],
                "tokens": [each.tokens for each in scores],
                "picked": picked,
            },
            values={name: float(pick == question.right) for name, pick in picked.items()},
        )

    def figures(self, records: Sequence[Record]) -> list[Figure]:
        """Return the shares of right picks."""
        return [
            _figure(
                name,
                share([each.values[name] == 1.0 for each in records]),
                len(records),
                higher_is_better=True,
                proportion=True,
                column=f"value.{name}",
            )
            for name in ("accuracy", "accuracy_sum")
        ]


def _figure(name: str, estimate: Estimate, n: int, *, higher_is_better: bool = False, **more: Any) -> Figure:
    return Figure(
        name=name,
        value=estimate.value,
        standard_error=estimate.stderr,
        n=n,
        higher_is_better=higher_is_better,
        **more,
    )


def _in_order(records: Sequence[Record]) -> list[Record]:
    """A sum of floats depends on the order of its terms: always the same one."""
    return sorted(records, key=lambda each: each.index)


def _scored(output: Any) -> Scored:
    return Scored(output["log_likelihood"], output["tokens"])


def _ignore(_: int) -> None:
    return None
