"""Which of several results of one suite speaks for a model."""

import itertools

import pytest

from steelyard.evals.selection import Homes, choose
from steelyard.specs.evaluations import built_in_digest
from steelyard.specs.safety import safety_digest
from steelyard.storage.tables import EvaluationRow

NOW, BEFORE, ELSE = (f"sha256:{sign * 64}" for sign in "abc")
_numbers = itertools.count(1)


def row(suite: str, digest: str, n: int, settings: str = "s", template: str | None = None) -> EvaluationRow:
    """A result; each is newer than the one before."""
    return EvaluationRow(
        id=f"eval_{next(_numbers):026d}", suite=suite, suite_digest=digest, settings_digest=settings, n=n,
        settings={"chat_template": template},
    )  # fmt: skip


def test_a_run_that_was_cut_short_never_stands_in_for_a_whole_one() -> None:
    whole, short = row("exam", NOW, 400, "all"), row("exam", NOW, 8, "eight")
    assert choose([whole, short], Homes()).first == [whole]
    assert choose([whole, short], Homes({"exam": NOW})).first == [whole]


def test_of_equal_size_the_newer_counts() -> None:
    older, newer = row("exam", NOW, 400), row("exam", NOW, 400, "other")
    assert choose([newer, older], Homes()).first == [newer]


def test_the_present_content_of_a_suite_counts_however_small() -> None:
    before, now = row("exam", BEFORE, 1000), row("exam", NOW, 100)
    later = row("exam", BEFORE, 1000)
    homes = Homes({"exam": NOW})
    assert choose([before, now, later], homes).first == [now]
    assert choose([before, later], homes).first == [later]


def test_heldout_counts_on_the_data_that_the_model_was_trained_with() -> None:
    data = {"digest": "sha256:data", "format": "messages"}
    own = row("heldout", built_in_digest("heldout", data), 64)
    easier = row("heldout", built_in_digest("heldout", data | {"digest": "sha256:easy"}), 4000)
    assert choose([own, easier], Homes(dataset=data)).first == [own]
    assert choose([own, easier], Homes()).first == [easier]


def test_a_model_that_a_template_told_what_to_say_is_another_one() -> None:
    plain = row("safety", safety_digest("safety"), 100)
    told = row("safety", safety_digest("safety"), 293, "t", template="sha256:refuse everything")
    assert choose([plain, told], Homes(chat_template="sha256:its own")).first == [plain]
    assert choose([told], Homes()).first == []
    like = {("safety", told.suite_digest, "t")}
    assert choose([told], Homes(), pinned={told.suite_digest}, like=like).others == []
    own = row("safety", safety_digest("safety"), 293, "t", template="sha256:its own")
    assert choose([plain, own], Homes(chat_template="sha256:its own")).first == [own]


def test_a_safety_suite_of_today_s_probes_counts() -> None:
    today, before = row("safety", safety_digest("safety"), 10), row("safety", BEFORE, 300)
    assert choose([today, before], Homes()).first == [today]


def test_what_a_gate_pins_is_there_besides_and_whole() -> None:
    now, short, pinned = row("exam", NOW, 100), row("exam", BEFORE, 5, "five"), row("exam", BEFORE, 90)
    found = choose([now, pinned, short], Homes({"exam": NOW}), pinned={BEFORE})
    assert (found.first, found.others) == ([now], [pinned])
    assert choose([now], Homes({"exam": NOW}), pinned={NOW}).others == []


@pytest.mark.parametrize("settings", ["all", "eight"])
def test_what_another_model_was_measured_with_is_there_besides(settings: str) -> None:
    whole, short, else_ = row("exam", NOW, 400, "all"), row("exam", NOW, 8, "eight"), row("exam", ELSE, 9)
    found = choose([whole, short, else_], Homes(), like={("exam", NOW, settings)})
    assert found.first == [whole]
    assert found.others == ([] if settings == "all" else [short])
