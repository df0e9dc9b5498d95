"""Scores against values computed one token at a time, and figures against values computed by hand."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from typing import Any

import pytest
import torch
from tests.run_factory import CHATS, PAIRS, TEXTS

from steelyard.trainers.scoring import Sample, Scored, mean_loss, perplexity, picks, score, share
from steelyard.trainers.suites import choices_of, first_rows, heldout_samples, options_of, picks_of
from steelyard.trainers.tokenizing import NO_LOSS


def _one_by_one(model: Any, sample: Sample) -> float:
    """The definition: the sum of log softmax(logits of what came before)[token] over the labelled tokens."""
    total = 0.0
    for place, label in enumerate(sample.labels):
        if label == NO_LOSS or place == 0:
            continue
        with torch.no_grad():
            logits = model(torch.tensor([sample.input_ids[:place]])).logits[0, -1]
        total += float(torch.log_softmax(logits, dim=0)[label])
    return total


class TestScore:
    def test_batches_of_unequal_length_score_as_each_alone(self, model: Any) -> None:
        samples = [
            Sample((5, 9, 17, 33, 8), (NO_LOSS, NO_LOSS, 17, 33, 8)),
            Sample((7, 11), (NO_LOSS, 11)),
            Sample(tuple(range(20, 60)), tuple([NO_LOSS] * 30 + list(range(50, 60)))),
            Sample((4, 3, 2), (4, 3, 2)),
        ]
        scores = score(model, samples, 0, lambda count: None)
        for sample, scored in zip(samples, scores, strict=True):
            assert scored.log_likelihood == pytest.approx(_one_by_one(model, sample), abs=1e-4)
        assert [each.tokens for each in scores] == [3, 1, 10, 2]

    def test_equal_samples_are_scored_once(self, model: Any) -> None:
        counts: list[int] = []
        sample = Sample((5, 9), (NO_LOSS, 9))
        one, other = score(model, [sample, Sample((5, 9), (NO_LOSS, 9))], 0, counts.append)
        assert one == other
        assert counts == [1]

    def test_a_sample_without_labels_scores_nothing(self, model: Any) -> None:
        assert score(model, [Sample((5, 9), (NO_LOSS, NO_LOSS))], 0, lambda count: None) == [Scored(0.0, 0)]


class TestFigures:
    def test_loss_weighs_rows_by_their_tokens(self) -> None:
        # Sums 2 and 9 over 2 and 3 tokens: 11 / 5. Residuals 2 - 4.4 and 9 - 6.6: both 2.4 away.
        loss = mean_loss([Scored(-2.0, 2), Scored(-9.0, 3)])
        assert loss.value == pytest.approx(2.2)
        assert loss.stderr == pytest.approx(math.sqrt(2 * (2.4**2 + 2.4**2)) / 5)

    def test_perplexity_is_exp_of_loss(self) -> None:
        loss = mean_loss([Scored(-2.0, 2), Scored(-9.0, 3)])
        assert perplexity(loss).value == pytest.approx(math.exp(2.2))
        assert perplexity(loss).stderr == pytest.approx(math.exp(2.2) * loss.stderr)

    def test_share(self) -> None:
        found = share([True, True, True, False])
        assert found.value == 0.75
        assert found.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))

    def test_length_decides_between_the_two_ways_to_pick(self) -> None:
        options = [Scored(-3.0, 1), Scored(-4.0, 8), Scored(-5.0, 2)]
        assert picks(options, normalised=False) == 0
        assert picks(options, normalised=True) == 1


class TestChoices:
    _COMPLETIONS = [row["completion"] for row in PAIRS[:10]]

    def test_options_are_four_with_the_right_one_among_them(self) -> None:
        options = options_of(PAIRS[0], self._COMPLETIONS)
        assert len(set(options)) == 4
        assert PAIRS[0]["completion"] in options

    def test_options_do_not_depend_on_the_order_of_rows(self) -> None:
        assert options_of(PAIRS[0], self._COMPLETIONS) == options_of(PAIRS[0], self._COMPLETIONS[::-1])

    def test_place_says_nothing_of_right(self) -> None:
        places = [options_of(row, self._COMPLETIONS).index(row["completion"]) for row in PAIRS[:10]]
        assert len(set(places)) > 1

    def test_a_model_that_knows_is_always_right(self, tokenizer: Any) -> None:
        questions = choices_of(PAIRS[:6], "prompt_completion", tokenizer, 64)
        known = heldout_samples(PAIRS[:6], "prompt_completion", tokenizer, 64)
        for question, (_, own) in zip(questions, known, strict=True):
            sure = [-1.0 if each.input_ids == own.input_ids else -9.0 for each in question.samples]
            assert set(picks_of([Scored(each, 3) for each in sure]).values()) == {question.right}
            unsure = [-10.0 - each for each in sure]
            assert question.right not in picks_of([Scored(each, 3) for each in unsure]).values()

    def test_conversations_ask_for_their_last_turn(self, tokenizer: Any) -> None:
        questions = choices_of(CHATS[:5], "messages", tokenizer, 64)
        assert [len(question.samples) for question in questions] == [4] * 5


class TestHeldout:
    def test_rows_are_chosen_by_content(self) -> None:
        assert first_rows(PAIRS, 5) == first_rows(PAIRS[::-1], 5)

    def test_only_the_assistant_is_scored(self, tokenizer: Any) -> None:
        ((_, sample),) = heldout_samples(CHATS[:1], "messages", tokenizer, 64)
        scored = [label for label in sample.labels if label != NO_LOSS]
        assert tokenizer.decode(scored) == "The number is 0.<|im_end|>"

    def test_text_is_scored_whole(self, tokenizer: Any) -> None:
        ((_, sample),) = heldout_samples(TEXTS[:1], "text", tokenizer, 64)
        assert sample.labels == sample.input_ids
