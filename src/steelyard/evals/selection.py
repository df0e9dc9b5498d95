"""Which results speak for a model, where there are several of one suite. Pure.

A result under another chat template than the model's own is of another model: a template can tell it to
refuse everything. Of the others, of one suite, in this order:

1. results with the content that the suite has now: of a suite over a job's data, the data that the model was
   trained with; of a suite of files, its newest version.
2. results of more samples, so that a run which was cut short never stands in for a whole one.
3. newer results.

What a gate pins to a content, and what is to be held beside another model's result, is found besides.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from steelyard.specs.evaluations import (
    BUILT_IN_SUITES,
    LIBRARY_PREFIX,
    built_in_digest,
    library_digest,
)
from steelyard.specs.safety import is_safety_suite, safety_digest
from steelyard.storage.tables import EvaluationRow


@dataclass(frozen=True)
class Homes:
    """What the suites of a model hold now."""

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of a suite of files -> digest of its newest version."""
    dataset: Mapping[str, str] | None = None
    """`digest` and `format` of the data that the model was trained with."""
    chat_template: str | None = None
    """Digest of the template that its job named, if it named one; it is saved with the model."""

    def admits(self, row: EvaluationRow) -> bool:
        """Whether a result is of the model as it is."""
        return row.settings.get("chat_template") in (None, self.chat_template)

    def digest(self, suite: str) -> str | None:
        """Return the digest of a suite's present content; None where nothing says which that is."""
        if suite in BUILT_IN_SUITES:
            return built_in_digest(suite, self.dataset) if self.dataset else None
        if is_safety_suite(suite):
            return safety_digest(suite)
        return library_digest(suite) if suite.startswith(LIBRARY_PREFIX) else self.files.get(suite)


@dataclass(frozen=True)
class Chosen:
    """The results that count."""

    first: list[EvaluationRow]
    """One of each suite."""
    others: list[EvaluationRow]
    """What is pinned or looked for besides."""


def choose(
    rows: Sequence[EvaluationRow],
    homes: Homes,
    pinned: Collection[str] = (),
    like: Collection[tuple[str, str, str]] = (),
) -> Chosen:
    """Choose among the results of one model.

    Args:
        pinned: digests of contents that gates name.
        like: suite, digest of its content, and of the settings, of results to be held beside these.
    """
    first: dict[str, EvaluationRow] = {}
    others: dict[tuple[str, ...], EvaluationRow] = {}
    own = [row for row in rows if homes.admits(row)]
    for row in sorted(own, key=lambda row: (row.suite_digest == homes.digest(row.suite), row.n, row.id)):
        first[row.suite] = row
        if row.suite_digest in pinned:
            others[row.suite, row.suite_digest] = row
        if (name := (row.suite, row.suite_digest, row.settings_digest)) in like:
            others[name] = row
    known = {row.id for row in first.values()}
    besides = {row.id: row for _, row in sorted(others.items()) if row.id not in known}
    return Chosen([row for _, row in sorted(first.items())], list(besides.values()))
