# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""Unicode and whitespace: equal texts that were written differently become equal."""

from typing import Literal, cast

import polars as pl
import pyarrow as pa

from steelyard.datasets.columns import Layout
from steelyard.datasets.stages import Outcome
from steelyard.datasets.texts import TextMap, joined_texts, map_texts
from steelyard.specs.datasets import NormalizeBlock

_CONTROLS = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f\ufeff]"
_ENDS = r"^[\u200b\u2060\s]*[\u200b\u2060]|[\u200b\u2060][\u200b\u2060\s]*$"
_SUSPECTS = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f\ufeff\u200b\u2060]"
_BLANK_START = r"^(?:[ \t]*\n)+"
_NFC_SAFE = r"^[\x00-\u02ff]*$"
"""Characters below U+0300 are their own NFC: most text needs no closer look."""


class Normalization:
    """Brings every text to one form; drops a row of which nothing is left."""

    name = "normalize"

    def __init__(self, block: NormalizeBlock) -> None:
        self._block = block

    def run(self, layout: Layout, table: pa.Table) -> Outcome:
        """Alter texts; a row whose text is blank afterwards is dropped."""
        before = joined_texts(layout, table)
        changed_table = map_texts(layout, table, self._change(layout))
        after = joined_texts(layout, changed_table)
        blank = ~after.str.contains(r"\S")
        reasons = pl.select(pl.when(blank).then(pl.lit("empty after normalisation"))).to_series()
        return Outcome(changed_table, reasons, changed=int((before != after).sum()))

    def _change(self, layout: Layout) -> TextMap:
        """A prompt and its completion are joined as they are, so the space where they meet is kept."""
        trims = layout.conversational or layout.format == "text"
        return self._trimmed if trims else self._normalized

    def _trimmed(self, texts: pl.Series) -> pl.Series:
        texts = self._normalized(texts)
        if not self._block.trailing_whitespace:
            return texts
        return texts.str.strip_chars_end().str.replace(_BLANK_START, "")

    def _normalized(self, texts: pl.Series) -> pl.Series:
        """Each step leaves nothing for an earlier one, so that a second run changes nothing."""
        block = self._block
        if block.control_characters and texts.str.contains(_SUSPECTS).any():
            texts = texts.str.replace_all(_CONTROLS, "").str.replace_all(_ENDS, "")
        if block.unicode is not None and (block.unicode == "nfkc" or not _plain(texts)):
            form = cast("Literal['NFC', 'NFKC']", block.unicode.upper())
            texts = texts.str.normalize(form)
        if block.trailing_whitespace:
            if texts.str.contains("\r", literal=True).any():
                texts = texts.str.replace_all(r"\r\n?", "\n")
            texts = texts.str.replace_all("[ \t\u00a0]+\n", "\n")
        return texts


def _plain(texts: pl.Series) -> bool:
    return bool(texts.str.contains(_NFC_SAFE).all())
