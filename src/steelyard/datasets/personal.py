# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Personal data and secrets in text: found by patterns, confirmed by check digits, masked or dropped.

The patterns are wide and run in polars over all texts at once; what needs a check digit (cards by Luhn,
IBANs by ISO 7064) is confirmed on the few texts where a pattern matched. Names and addresses are not
looked for: that needs a model.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import Layout
from steelyard.datasets.stages import Outcome
from steelyard.datasets.texts import joined_texts, map_texts
from steelyard.specs.datasets import PiiBlock, PiiKind


@dataclass(frozen=True)
class Detector:
    """One kind of datum."""

    kind: PiiKind
    pattern: str
    """For Rust's and Python's regular expressions alike."""
    confirm: Callable[[str], bool] | None = None
    hint: str = ""
    """A cheaper pattern that matches wherever `pattern` does."""

    @property
    def mask(self) -> str:
        """What stands in its place."""
        return f"[{self.kind.upper()}]"


def luhn_holds(text: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1), and it isn't all one digit."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def iban_holds(text: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 7064, MOD 97-10)."""
    compact = text.replace(" ", "").upper()
    moved = compact[4:] + compact[:4]
    return 15 <= len(compact) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def address_holds(text: str) -> bool:
    """Whether all four numbers of an IPv4 address are bytes, and it isn't a loopback or blank one."""
    numbers = [int(part) for part in text.split(".")]
    return all(number <= 255 for number in numbers) and numbers[0] not in (0, 127)


def phone_holds(text: str) -> bool:
    """Whether there are as many digits as a subscriber's number has (ITU-T E.164), country and all."""
    return 8 <= sum(character.isdigit() for character in text) <= 15


_SECRETS = "|".join(
    (
        r"AKIA[0-9A-Z]{16}",
        r"gh[pousr]_[A-Za-z0-9]{36,}",
        r"github_pat_[A-Za-z0-9_]{50,}",
        r"xox[abprs]-[A-Za-z0-9-]{10,}",
        r"sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",
        r"hf_[A-Za-z0-9]{30,}",
        r"AIza[0-9A-Za-z_-]{35}",
        r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    )
)

_PHONES = "|".join(
    (
        r"(?:\+[0-9]{1,3}[ .-]?)?(?:\([0-9]{2,4}\)[ .-]?|\b[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}\b",
        # ITU-T E.164 as people write it; "\B" keeps sums such as 1+23456789 out.
        r"\B\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,12}(?:[ .-][0-9]{2,8}){0,5}\b",
    )
)

DETECTORS: tuple[Detector, ...] = (
    Detector("secret", rf"(?:{_SECRETS})"),
    Detector("email", r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b", hint="@"),
    Detector(
        "iban",
        r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
        iban_holds,
        "[A-Z]{2}[0-9]{2}",
    ),
    Detector(
        "credit_card", r"\b[0-9](?:[ -]?[0-9]){12,18}\b", luhn_holds, "[0-9][ -]?[0-9][ -]?[0-9][ -]?[0-9]"
    ),
    Detector("ssn", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b"),
    Detector("ip_address", r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", address_holds, r"[0-9]\.[0-9]"),
    Detector("phone", rf"(?:{_PHONES})", phone_holds),
)
"""In the order in which they are looked for; what one has masked, the next doesn't see."""


def masked(texts: list[str], kinds: Sequence[PiiKind]) -> list[str]:
    """Return the texts with all data of these kinds masked."""
    changed = pl.Series(texts, dtype=pl.String)
    for detector in DETECTORS:
        if detector.kind in kinds:
            changed = _masked(detector, changed)
    return changed.to_list()


class PersonalData:
    """Reports, masks or drops rows that hold personal data or secrets."""

    name = "pii"

    def __init__(self, block: PiiBlock) -> None:
        self._action = block.action
        self._detectors = [detector for detector in DETECTORS if detector.kind in block.kinds]

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Look for every kind in every text."""
        texts = joined_texts(layout, table)
        found = [(detector, _found(detector, texts)) for detector in self._detectors]
        noted = {detector.kind: int(rows.sum()) for detector, rows in found if rows.any()}
        if not noted or self._action == "report":
            return Outcome(table, noted=noted)
        if self._action == "drop":
            return Outcome(table, _reasons(found))
        touched = pl.select(pl.any_horizontal([rows for _, rows in found])).to_series()
        return Outcome(map_texts(layout, table, self._mask), changed=int(touched.sum()), noted=noted)

    def _mask(self, texts: pl.Series) -> pl.Series:
        for detector in self._detectors:
            texts = _masked(detector, texts)
        return texts


def _reasons(found: list[tuple[Detector, pl.Series]]) -> pl.Series:
    reason = pl.lit(None, dtype=pl.String)
    for detector, rows in reversed(found):
        reason = pl.when(rows).then(pl.lit(f"holds {detector.kind}")).otherwise(reason)
    return pl.select(reason).to_series()


def _found(detector: Detector, texts: pl.Series) -> pl.Series:
    suspected = texts.str.contains(detector.hint).fill_null(False)
    matched = suspected & _only(texts, suspected, detector.pattern)
    confirm = detector.confirm
    if confirm is None or not matched.any():
        return matched
    pattern = re.compile(detector.pattern)
    confirmed = [
        any(confirm(match.group()) for match in pattern.finditer(text))
        for text in texts.filter(matched).to_list()
    ]
    rows = matched.arg_true().filter(pl.Series(confirmed, dtype=pl.Boolean))
    return pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(texts)).scatter(rows, True)


def _only(texts: pl.Series, where: pl.Series, pattern: str) -> pl.Series:
    """Look for a pattern in some of the texts."""
    nothing = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(texts))
    if not where.any():
        return nothing
    return nothing.scatter(where.arg_true(), texts.filter(where).str.contains(pattern))


def _masked(detector: Detector, texts: pl.Series) -> pl.Series:
    confirm = detector.confirm
    if confirm is None:
        return texts.str.replace_all(detector.pattern, detector.mask)
    matched = texts.str.contains(detector.pattern).fill_null(False)
    if not matched.any():
        return texts
    pattern = re.compile(detector.pattern)

    def replace(match: re.Match[str]) -> str:
        return detector.mask if confirm(match.group()) else match.group()

    changed = [pattern.sub(replace, text) for text in texts.filter(matched).to_list()]
    return texts.scatter(matched.arg_true(), pl.Series(changed, dtype=pl.String))
