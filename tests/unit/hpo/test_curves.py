"""Which points of a curve are kept, and which of them may decide."""

import pytest
from tests.unit.hpo.searches import search_spec

from steelyard.hpo.curves import curve_metric, decides, is_kept, judged_step, spacing
from steelyard.specs.search import PruningBlock

ASHA = PruningBlock(type="asha", min_steps=10, reduction_factor=3)
MEDIAN = PruningBlock(type="median", min_steps=10, interval_steps=5)


@pytest.mark.parametrize("spacing_steps", [1, 7, 20])
def test_rows_are_few_however_long_a_curve_gets(spacing_steps: int) -> None:
    for points in (256, 1000, 50_000):
        kept = [at for at in range(1, points + 1) if is_kept(ASHA, at * spacing_steps, spacing_steps)]
        assert len(kept) <= 256 + 128 * max(0, (points // 256).bit_length()) + 20
    assert [at for at in range(1, 257) if is_kept(ASHA, at * spacing_steps, spacing_steps)] == list(
        range(1, 257)
    )


def test_what_is_judged_is_kept_however_late() -> None:
    rungs = [10 * 3**k for k in range(9)]

    assert all(is_kept(ASHA, rung, 1) and decides(ASHA, rung, 1) for rung in rungs)


def test_only_the_first_point_at_or_after_a_judged_step_decides() -> None:
    assert [step for step in range(1, 100) if decides(ASHA, step, 1)] == [10, 30, 90]
    assert [step for step in range(4, 100, 4) if decides(ASHA, step, 4)] == [12, 32, 92]
    assert [step for step in range(1, 27) if decides(MEDIAN, step, 1)] == [10, 15, 20, 25]
    assert not any(decides(PruningBlock(), step, 1) for step in range(100))


def test_the_judged_step_is_the_last_that_was_reached() -> None:
    assert [judged_step(ASHA, step) for step in (9, 10, 29, 30, 1000)] == [None, 10, 10, 30, 810]
    assert [judged_step(MEDIAN, step) for step in (9, 10, 14, 15)] == [None, 10, 10, 15]


@pytest.mark.parametrize(
    ("changes", "eval_steps", "expected"),
    [
        ({"metric": "heldout/loss"}, 5, "eval/loss"),
        ({"metric": "heldout/loss"}, None, "train/loss"),
        ({"metric": "train/loss"}, 5, "train/loss"),
        ({"metric": "heldout/loss", "pruning": {"metric": "train/loss"}}, 5, "train/loss"),
    ],
)
def test_the_curve_is_of_what_prunes_or_of_the_search_or_of_what_there_is(
    changes: dict[str, object], eval_steps: int | None, expected: str
) -> None:
    training = {"max_steps": 81, "logging_steps": 2, "eval_steps": eval_steps}
    spec = search_spec(trial={"training": training}, **changes)

    name = curve_metric(spec.search, spec.trial.training)

    assert name == expected
    assert spacing(name, spec.trial.training) == (eval_steps if name == "eval/loss" else 2)
