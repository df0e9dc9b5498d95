# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from typing import Any

import pytest
from datasets import Dataset
from tests.preference_rows import CHAT_JUDGED, CHAT_PREFERENCES, JUDGED, PREFERENCES
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

from steelyard.runtime.failures import RunFailure
from steelyard.specs.blocks import TrainingBlock
from steelyard.specs.states import Reason
from steelyard.trainers.kto import as_dataset
from steelyard.trainers.preference_figures import pair_figures, unpaired_figures
from steelyard.trainers.preferences import Judged, tokenize_preferences

_TRAINING = TrainingBlock(max_steps=1, max_length=64)


class _Arguments:
    dataset_num_proc = None
    max_length = None
    truncation_mode = "keep_start"
    per_device_train_batch_size = 4


class _Bare:
    """As much of a trainer as TRL's preparation of rows reads."""

    calculate_KL = True  # noqa: N815 - TRL's name
    desirable_weight = undesirable_weight = 1.0

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer


@pytest.mark.parametrize("rows", [PREFERENCES, CHAT_PREFERENCES])
class TestPairsAreWhatTrlMakes:
    def test_dpo(self, tokenizer: Any, rows: list[Any]) -> None:
        prepare: Any = DPOTrainer._prepare_dataset
        theirs = prepare(_Bare(tokenizer), Dataset.from_list(rows), tokenizer, _Arguments(), "train")
        ours = tokenize_preferences(rows, "preference", tokenizer, _TRAINING, "train")
        assert theirs["prompt_ids"] == [each.prompt_ids for each in ours]
        assert theirs["chosen_ids"] == [each.answers[0] for each in ours]
        assert theirs["rejected_ids"] == [each.answers[1] for each in ours]

    def test_reward(self, tokenizer: Any, rows: list[Any]) -> None:
        prepare: Any = RewardTrainer._prepare_dataset
        theirs = prepare(_Bare(tokenizer), Dataset.from_list(rows), tokenizer, _Arguments(), "train")
        ours = tokenize_preferences(rows, "preference", tokenizer, _TRAINING, "train")
        assert theirs["chosen_ids"] == [each.sequences[0] for each in ours]
        assert theirs["rejected_ids"] == [each.sequences[1] for each in ours]


@pytest.mark.parametrize("rows", [JUDGED, CHAT_JUDGED])
def test_single_answers_are_what_trl_makes_of_the_mixed_rows(tokenizer: Any, rows: list[Any]) -> None:
    ours: Any = as_dataset(
        tokenize_preferences(rows, "unpaired_preference", tokenizer, _TRAINING, "train"), 4, 7
    )
    order = [ours_row["prompt_ids"] + ours_row["completion_ids"] for ours_row in ours]
    by_ids = {
        tuple(each.sequences[0]): rows[each.row]
        for each in tokenize_preferences(rows, "unpaired_preference", tokenizer, _TRAINING, "train")
    }
    mixed = [by_ids[tuple(ids)] for ids in order]
    prepare: Any = KTOTrainer._prepare_dataset
    theirs = prepare(_Bare(tokenizer), Dataset.from_list(mixed), tokenizer, _Arguments(), "train")
    for name in ("prompt_ids", "completion_ids", "KL_completion_ids", "label"):
        assert theirs[name] == ours[name]
    assert KTOConfig.__dataclass_fields__["train_sampling_strategy"].default == "sequential"
    assert len({tuple(ours["label"][start : start + 4]) for start in range(0, 80, 4)}) > 2


class TestLengths:
    def _tokenize(self, tokenizer: Any, rows: list[Any], **settings: Any) -> list[Judged]:
        training = TrainingBlock(max_steps=1, **settings)
        return tokenize_preferences(rows, "preference", tokenizer, training, "validation")

    def test_answers_are_cut_and_prompts_are_not(self, tokenizer: Any) -> None:
        whole = self._tokenize(tokenizer, PREFERENCES[:8], max_length=64)
        longest = len(whole[0].prompt_ids) + 4
        cut = self._tokenize(tokenizer, PREFERENCES[:8], max_length=longest, overlong="truncate")
        for before, after in zip(whole, cut, strict=True):
            assert after.prompt_ids == before.prompt_ids
            assert after.length <= longest
            assert all(b[: len(a)] == a for a, b in zip(after.answers, before.answers, strict=True))

    def test_a_pair_that_differs_only_in_what_is_cut_off_is_left_out(self, tokenizer: Any) -> None:
        alike = {"prompt": "a", "chosen": " the same beginning one", "rejected": " the same beginning two"}
        rows = [alike, PREFERENCES[0] | {"prompt": "a"}]
        whole = self._tokenize(tokenizer, rows, max_length=64)
        kept = self._tokenize(
            tokenizer, rows, max_length=max(8, len(whole[0].prompt_ids) + 3), overlong="truncate"
        )
        assert [each.row for each in whole] == [0, 1]
        assert [each.row for each in kept] == [1]

    def test_too_many_overlong_rows_are_refused_by_share(self, tokenizer: Any) -> None:
        rows = [*PREFERENCES[:3], PREFERENCES[3] | {"chosen": " word" * 100}]
        assert len(self._tokenize(tokenizer, rows, max_length=64, overlong="drop")) == 3
        with pytest.raises(RunFailure) as refused:
            self._tokenize(tokenizer, rows, max_length=64, overlong="drop", max_overlong_share=0.2)
        assert refused.value.reason is Reason.SEQUENCE_TOO_LONG


class TestFigures:
    def test_pairs(self) -> None:
        figures = pair_figures([(1.0, 0.0), (0.0, 2.0), (0.5, 0.5)])
        assert figures["rewards/accuracies"] == pytest.approx(1 / 3), "a tie is not right"
        assert figures["rewards/margins"] == pytest.approx(-1 / 3)
        assert figures["rewards/loss"] == pytest.approx((0.313262 + 2.126928 + 0.693147) / 3, abs=1e-5)

    def test_single_answers(self) -> None:
        rows = [Judged(index, [1], ([2],), wanted) for index, wanted in enumerate([True, False, True, False])]
        figures = unpaired_figures(rows, [(2.0,), (1.0,), (1.0,), (0.0,)])
        assert figures["rewards/accuracies"] == pytest.approx(3.5 / 4)
        assert figures["rewards/margins"] == pytest.approx(1.0)
        assert unpaired_figures(rows[:1], [(2.0,)]) == {}
