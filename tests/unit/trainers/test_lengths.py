"""Overlong rows are counted and judged; masks that hide everything are refused."""

import pytest

from steelyard.runtime.failures import RunFailure
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.states import Reason
from steelyard.specs.tokens import TokenSummary, refuse_share
from steelyard.trainers.lengths import NO_LOSS, Example, Tally, judge_lengths


def tally(training: TrainingBlock, *lengths: int) -> TokenSummary:
    counting = Tally(training)
    for row, length in enumerate(lengths):
        counting.fit(Example(row, [1] * length, [1] * length))
    return counting.summary()


@pytest.mark.parametrize(("overlong", "kept", "tokens"), [("truncate", 4, 8 + 8 + 3 + 8), ("drop", 2, 11)])
def test_counts(overlong: str, kept: int, tokens: int) -> None:
    summary = tally(TrainingBlock(max_length=8, overlong=overlong), 8, 9, 3, 20)  # pyright: ignore[reportArgumentType]
    assert (summary.rows_in, summary.rows_kept, summary.rows_overlong) == (4, kept, 2)
    assert (summary.tokens, summary.loss_tokens, summary.longest) == (tokens, tokens, 20)


def test_an_error_names_the_row_of_the_whole_file() -> None:
    counting = Tally(TrainingBlock(max_length=8), rows_before=100)
    with pytest.raises(RunFailure, match="Row 103 of the train split has 9 tokens"):
        counting.fit(Example(2, [1] * 9, [1] * 9))


def test_the_tolerated_share_is_a_bound_that_may_be_reached() -> None:
    summary = TokenSummary(rows_in=10, rows_kept=7, rows_overlong=3, longest=99, loss_tokens=1)
    tolerant = TrainingBlock(overlong="drop", max_overlong_share=0.3)
    assert refuse_share(summary, tolerant) is None
    strict = tolerant.model_copy(update={"max_overlong_share": 0.29})
    assert "3 of 10 rows (30.0%)" in (refuse_share(summary, strict) or "")
    with pytest.raises(RunFailure) as failed:
        judge_lengths(summary, strict)
    assert failed.value.reason is Reason.SEQUENCE_TOO_LONG


def test_nothing_left_and_nothing_to_learn_are_refused() -> None:
    with pytest.raises(RunFailure) as empty:
        judge_lengths(tally(TrainingBlock(max_length=8, overlong="drop"), 9), TrainingBlock())
    assert empty.value.reason is Reason.DATASET_EMPTY
    counting = Tally(TrainingBlock())
    counting.fit(Example(0, [1, 2], [NO_LOSS, NO_LOSS]))
    with pytest.raises(RunFailure) as masked:
        judge_lengths(counting.summary(), TrainingBlock(assistant_only_loss=True))
    assert masked.value.reason is Reason.BAD_CHAT_TEMPLATE
