"""Rows that are too long: cut, dropped or refused as asked, counted, and judged."""

from dataclasses import dataclass

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenSummary, refuse_share

NO_LOSS = -100


@dataclass(frozen=True)
class Example:
    """One training example. `labels` runs parallel to `input_ids`; `row` counts from 0."""

    row: int
    input_ids: list[int]
    labels: list[int]


class Tally:
    """Makes rows fit one after another, and counts."""

    def __init__(self, training: TrainingBlock, *, rows_before: int = 0) -> None:
        self._training = training
        self._rows_before = rows_before
        self._rows_in = self._kept = self._overlong = self._longest = self._tokens = self._loss_tokens = 0

    def fit(self, example: Example) -> Example | None:
        """Return the example as it is trained on, None where it is dropped.

        Raises:
            RunFailure: it is too long, and `training.overlong` is `error`.
        """
        length, longest = len(example.input_ids), self._training.max_length
        self._rows_in += 1
        self._longest = max(self._longest, length)
        if length > longest:
            self._overlong += 1
            if self._training.overlong == "error":
                raise too_long(self._rows_before + example.row, length, longest)
            if self._training.overlong == "drop":
                return None
            example = Example(example.row, example.input_ids[:longest], example.labels[:longest])
            if all(label == NO_LOSS for label in example.labels):
                return None
        self._kept += 1
        self._tokens += len(example.input_ids)
        self._loss_tokens += len(example.labels) - example.labels.count(NO_LOSS)
        return example

    def summary(self) -> TokenSummary:
        """Return what was counted so far."""
        return TokenSummary(
            rows_in=self._rows_in,
            rows_kept=self._kept,
            rows_overlong=self._overlong,
            longest=self._longest,
            tokens=self._tokens,
            loss_tokens=self._loss_tokens,
            sequences=self._kept,
        )


def judge_lengths(summary: TokenSummary, training: TrainingBlock) -> None:
    """Refuse rows of which too many are too long, or none can be learned from.

    Raises:
        RunFailure: so it is.
    """
    if summary.rows_kept == 0:
        raise bad_config(
            Reason.DATASET_EMPTY,
            f"No row is left to learn from: all {summary.rows_in} are longer than training.max_length "
            f"{training.max_length}. Raise it.",
            param="training.max_length",
        )
    if (refusal := refuse_share(summary, training)) is not None:
        raise bad_config(Reason.SEQUENCE_TOO_LONG, refusal, param="training.max_length")
    if summary.loss_tokens == 0:
        raise bad_config(
            Reason.BAD_CHAT_TEMPLATE if training.assistant_only_loss else Reason.DATASET_EMPTY,
            "No token would be learned: the loss masks cover every row whole. "
            + _masks_remedy(assistant_only=training.assistant_only_loss),
            param="training.assistant_only_loss" if training.assistant_only_loss else "dataset.ref",
        )


def _masks_remedy(*, assistant_only: bool) -> str:
    if assistant_only:
        return (
            "Put the assistant's text inside the template's {% generation %} marks, or set "
            "training.assistant_only_loss to false."
        )
    return "Ingest rows whose completions hold text, or set training.completion_only_loss to false."


def too_long(row: int, length: int, max_length: int, split: str = "train") -> RunFailure:
    """Make the failure of a row, counted from 0, that has more tokens than it may."""
    return bad_config(
        Reason.SEQUENCE_TOO_LONG,
        f"Row {row + 1} of the {split} split has {length} tokens, more than "
        f"training.max_length {max_length}: raise it, or set training.overlong to truncate or drop.",
        param="training.max_length",
    )
